//! The headers of sounds, read before anything is decoded: what is cut off, empty or too
//! long, and what no decoder is built in for, is refused by them.

use super::{Failure, FailureKind};

/// The longest sound, in seconds.
pub const SOUND_SECONDS_MAX: u32 = 600;
/// Samples per second of sounds that are decoded.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// A WAV with this size or more was written to a pipe, which has no way back to its header.
const UNKNOWN_SIZE: u32 = 0x7fff_0000;

/// A format of sounds that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundFormat {
    /// WAV.
    Wav,
    /// MP3.
    Mp3,
    /// FLAC.
    Flac,
}

impl SoundFormat {
    /// The format of a sound, by its first bytes.
    ///
    /// # Errors
    /// `InvalidArgs`, `NotSupported`; the message is for the name of a field before it.
    pub fn of(bytes: &[u8]) -> Result<Self, Failure> {
        let is_riff = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE");
        match bytes {
            [] => Err(Failure::invalid("is empty")),
            _ if is_riff => Ok(Self::Wav),
            [b'f', b'L', b'a', b'C', ..] => Ok(Self::Flac),
            [b'I', b'D', b'3', ..] => Ok(Self::Mp3),
            [0xff, second, ..] if second & 0xe0 == 0xe0 => Ok(Self::Mp3),
            _ => Err(unknown(bytes)),
        }
    }
}

fn unknown(bytes: &[u8]) -> Failure {
    let named = match bytes {
        [b'O', b'g', b'g', b'S', ..] => Some("Ogg"),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some("WebM or Matroska"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("MP4, M4A or a video"),
        [b'F', b'O', b'R', b'M', ..] => Some("AIFF"),
        [b'R', b'F', b'6', b'4', ..] => Some("RF64"),
        _ => None,
    };
    match named {
        Some(name) => not_supported(&format!("is {name}, which is not decoded")),
        None => Failure::invalid("is no WAV, MP3 or FLAC: send one of these"),
    }
}

fn not_supported(what: &str) -> Failure {
    let message = format!("{what}: send a WAV, MP3 or FLAC");
    Failure::new(FailureKind::NotSupported, message)
}

/// Reads a sound's header.
///
/// # Errors
/// `InvalidArgs` for what is no sound, is cut off, has no samples, or is too long;
/// `NotSupported` for other formats. The message is for the name of a field before it.
pub fn read(bytes: &[u8]) -> Result<SoundFormat, Failure> {
    let format = SoundFormat::of(bytes)?;
    match format {
        SoundFormat::Wav => wav(bytes)?,
        SoundFormat::Flac => flac(bytes)?,
        // Its frames have no common header.
        SoundFormat::Mp3 => {}
    }
    Ok(format)
}

fn cut_off() -> Failure {
    Failure::invalid("is cut off in its header: send the whole file")
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The `fmt ` chunk of a WAV.
struct WaveFormat {
    kind: u16,
    channels: u16,
    rate: u32,
    /// Bytes of a sample of all channels, or of a compressed block.
    block: u16,
}

impl WaveFormat {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            kind: le16(bytes, at)?,
            channels: le16(bytes, at + 2)?,
            rate: le32(bytes, at + 4)?,
            block: le16(bytes, at + 12)?,
        })
    }

    /// Whether a block is a sample of all channels; `NotSupported` for unknown forms.
    fn is_plain(&self) -> Result<bool, Failure> {
        match self.kind {
            // Integers, floats, A-law, µ-law, and what the longer form of the chunk says.
            1 | 3 | 6 | 7 | 0xfffe => Ok(true),
            // ADPCM.
            2 | 0x11 => Ok(false),
            kind => Err(not_supported(&format!(
                "is a WAV with samples in format {kind}, which is not decoded"
            ))),
        }
    }
}

/// Chunks with their size, up to the samples (Multimedia Programming Interface and Data
/// Specifications 1.0, "Waveform Audio File Format").
fn wav(bytes: &[u8]) -> Result<(), Failure> {
    let (mut at, mut format) = (12, None);
    loop {
        let name = bytes.get(at..at + 4).ok_or_else(cut_off)?;
        let size = le32(bytes, at + 4).ok_or_else(cut_off)?;
        at += 8;
        match name {
            b"fmt " => format = Some(WaveFormat::read(bytes, at).ok_or_else(cut_off)?),
            b"data" => {
                let format = format.as_ref().ok_or_else(|| {
                    Failure::invalid("has samples and does not say before in which format")
                })?;
                return samples(format, size, bytes.len() - at);
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = at.saturating_add(size as usize + size as usize % 2);
    }
}

/// Checks the chunk of samples, which says that it has `size` bytes and has `there`.
fn samples(format: &WaveFormat, size: u32, there: usize) -> Result<(), Failure> {
    let is_plain = format.is_plain()?;
    check_rate(format.rate)?;
    if format.channels == 0 || format.block == 0 {
        return Err(Failure::invalid("has no channels: send one with sound"));
    }
    if size < UNKNOWN_SIZE && size as usize > there {
        return Err(Failure::invalid(format!(
            "is cut off: its header says that it has {size} bytes of samples, and {there} are \
             there; send the whole file"
        )));
    }
    let size = there.min(size as usize) as u64;
    let block = u64::from(format.block);
    if size < block {
        return Err(Failure::invalid("has no samples: send one with sound"));
    }
    if is_plain {
        check_length(size / block, format.rate)?;
    }
    Ok(())
}

/// STREAMINFO, which comes first (RFC 9639, 8.2).
fn flac(bytes: &[u8]) -> Result<(), Failure> {
    if bytes.get(4).ok_or_else(cut_off)? & 0x7f != 0 {
        return Err(Failure::invalid(
            "does not begin as a FLAC does: it is damaged",
        ));
    }
    let packed: [u8; 8] = bytes
        .get(18..26)
        .and_then(|packed| packed.try_into().ok())
        .ok_or_else(cut_off)?;
    // 20 bits of the rate, 3 of the channels, 5 of the depth, 36 of the samples.
    let packed = u64::from_be_bytes(packed);
    let rate = u32::try_from(packed >> 44).unwrap_or(u32::MAX);
    check_rate(rate)?;
    check_length(packed & ((1 << 36) - 1), rate)
}

fn check_rate(rate: u32) -> Result<(), Failure> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "has {rate} samples per second: send one with {} to {}",
        RATES.start(),
        RATES.end()
    )))
}

fn check_length(samples: u64, rate: u32) -> Result<(), Failure> {
    let seconds = samples / u64::from(rate.max(1));
    if seconds < u64::from(SOUND_SECONDS_MAX) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "has {seconds} seconds, at most {SOUND_SECONDS_MAX} are decoded: send a part of it"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A WAV of silence: kind, channels, rate, bits, the size that it claims, bytes.
    fn wav_of(kind: u16, channels: u16, rate: u32, bits: u16, size: u32, there: usize) -> Vec<u8> {
        let block = channels * (bits / 8);
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend([kind.to_le_bytes(), channels.to_le_bytes()].concat());
        file.extend(rate.to_le_bytes());
        file.extend((rate.wrapping_mul(u32::from(block))).to_le_bytes());
        file.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
        file.extend(b"data");
        file.extend(size.to_le_bytes());
        file.resize(file.len() + there, 0);
        file
    }

    fn flac_of(rate: u64, samples: u64) -> Vec<u8> {
        let mut file = b"fLaC\0\0\0\x22".to_vec();
        file.resize(18, 0);
        file.extend((rate << 44 | 15 << 36 | samples).to_be_bytes());
        file
    }

    #[test]
    fn sounds_are_known_by_their_first_bytes() {
        let wav = wav_of(1, 1, 16_000, 16, 4, 4);
        let formats = [
            (&wav[..], SoundFormat::Wav),
            (b"ID3\x04", SoundFormat::Mp3),
            (b"\xff\xfb\x90", SoundFormat::Mp3),
            (&flac_of(44_100, 1000), SoundFormat::Flac),
        ];
        for (bytes, format) in formats {
            assert_eq!(read(bytes).unwrap(), format);
        }
        // Written to a pipe: its size was not known.
        assert!(read(&wav_of(1, 2, 48_000, 16, u32::MAX, 4000)).is_ok());
        assert!(read(&wav_of(1, 2, 48_000, 16, 0x7fff_ffff, 4000)).is_ok());
        assert!(read(&wav_of(2, 1, 8000, 16, 1 << 20, 1 << 20)).is_ok());
    }

    // A table: a row for each kind of damage.
    #[test]
    fn what_cannot_be_decoded_is_refused_by_its_header() {
        use FailureKind::{InvalidArgs, NotSupported};
        let wav = wav_of(1, 1, 16_000, 16, 4, 4);
        for (bytes, kind, part) in [
            (Vec::new(), InvalidArgs, "empty"),
            (b"hello".to_vec(), InvalidArgs, "no WAV, MP3 or FLAC"),
            (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), InvalidArgs, "no WAV"),
            (b"OggS".to_vec(), NotSupported, "Ogg"),
            (b"\0\0\0\x20ftypM4A ".to_vec(), NotSupported, "M4A"),
            (wav[..14].to_vec(), InvalidArgs, "cut off in its header"),
            (wav[..40].to_vec(), InvalidArgs, "cut off in its header"),
            (
                wav_of(1, 1, 16_000, 16, 32_000, 100),
                InvalidArgs,
                "32000 bytes of samples, and 100 are there",
            ),
            (wav_of(1, 1, 16_000, 16, 0, 0), InvalidArgs, "no samples"),
            (wav_of(1, 0, 16_000, 16, 4, 4), InvalidArgs, "no channels"),
            (
                wav_of(1, 1, 0, 16, 4, 4),
                InvalidArgs,
                "0 samples per second",
            ),
            (
                wav_of(1, 1, u32::MAX, 16, 4, 4),
                InvalidArgs,
                "4294967295 samples per second",
            ),
            (wav_of(85, 1, 16_000, 16, 4, 4), NotSupported, "format 85"),
            (
                wav_of(1, 1, 1000, 8, 600_000, 600_000),
                InvalidArgs,
                "has 600 seconds",
            ),
            (
                b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd".to_vec(),
                InvalidArgs,
                "in which format",
            ),
            (flac_of(0, 1000), InvalidArgs, "0 samples per second"),
            (flac_of(8000, 1 << 35), InvalidArgs, "seconds"),
            (b"fLaC\x04".to_vec(), InvalidArgs, "damaged"),
            (b"fLaC\0".to_vec(), InvalidArgs, "cut off"),
        ] {
            let failure = read(&bytes).unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
        assert!(read(&wav_of(1, 1, 1000, 8, 599_999, 599_999)).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(head in 0usize..4, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let heads: [&[u8]; 4] = [b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", b"fLaC", b""];
            _ = read(&[heads[head], &rest].concat());
        }
    }
}
