//! WAV files, for tests.

/// Samples in a second.
const RATE: u32 = 8000;

/// A square wave of this frequency: one channel, eight bits. Its bytes are ASCII, so that a
/// request with it is a text.
pub fn wav(length_ms: u32, hertz: u32) -> Vec<u8> {
    let count = RATE * length_ms / 1000;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend([RATE.to_le_bytes(), RATE.to_le_bytes()].concat());
    file.extend(b"\x01\0\x08\0data");
    file.extend(count.to_le_bytes());
    let is_high = |at: u32| (at * hertz * 2 / RATE).is_multiple_of(2);
    file.extend((0..count).map(|at| if is_high(at) { 120 } else { 20 }));
    file
}
