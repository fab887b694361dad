//! Frames on the socket between daemon and engine: a little-endian `u32` length,
//! then that many bytes of JSON.
//!
//! JSON, because both ends already link it, a frame can be read in a trace, and at a
//! board's rates (tens of tokens a second) its cost is negligible, which the `framing`
//! benchmark measures.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The longest frame either side accepts. The HTTP body limit and the D-Bus message limit
/// are below it.
pub const MAX_FRAME_BYTES: usize = 80 * 1024 * 1024;

/// Bytes of the length in front of every frame.
pub const HEADER_BYTES: usize = 4;

/// Encodes one message with its length.
///
/// # Errors
/// `InvalidData` where the message is longer than [`MAX_FRAME_BYTES`] or cannot
/// be written as JSON.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - HEADER_BYTES;
    check_len(len)?;
    let len = u32::try_from(len).map_err(io::Error::other)?;
    frame[..HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
    Ok(frame)
}

/// The payload length in a header.
///
/// # Errors
/// `InvalidData` where it exceeds [`MAX_FRAME_BYTES`].
pub fn payload_len(header: [u8; HEADER_BYTES]) -> io::Result<usize> {
    let len = u32::from_le_bytes(header) as usize;
    check_len(len)?;
    Ok(len)
}

/// Decodes a payload.
///
/// # Errors
/// `InvalidData` where the bytes are not such a message.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    serde_json::from_slice(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Writes one message, blocking.
///
/// # Errors
/// Those of [`encode`] and of the writer.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Reads one message, blocking; `None` at a clean end between two frames.
///
/// # Errors
/// Those of [`payload_len`], [`decode`] and of the reader; `UnexpectedEof` in
/// the middle of a frame.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match from.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut payload = vec![0; payload_len(header)?];
    from.read_exact(&mut payload)?;
    decode(&payload).map(Some)
}

fn check_len(len: usize) -> io::Result<()> {
    if len > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {len} bytes exceeds the limit of {MAX_FRAME_BYTES}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, RequestId};

    #[test]
    fn round_trip_and_clean_end() {
        let mut wire = Vec::new();
        let sent = Command::Cancel { id: RequestId(7) };
        write(&mut wire, &sent).unwrap();
        let mut from = wire.as_slice();
        assert_eq!(read::<Command>(&mut from).unwrap(), Some(sent));
        assert_eq!(read::<Command>(&mut from).unwrap(), None);
    }

    #[test]
    fn a_truncated_frame_is_an_error() {
        let frame = encode(&Command::Shutdown).unwrap();
        for cut in 1..frame.len() {
            assert!(read::<Command>(&mut &frame[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let mut wire = u32::MAX.to_le_bytes().to_vec();
        wire.push(0);
        let error = read::<Command>(&mut wire.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_invalid_frame_is_invalid_data() {
        let mut wire = 3u32.to_le_bytes().to_vec();
        wire.extend(b"{x}");
        let error = read::<Command>(&mut wire.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
