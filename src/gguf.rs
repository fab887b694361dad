//! The header of a GGUF file, read defensively and without llama.cpp.
//!
//! Format: ggml's docs/gguf.md. Everything is little-endian; strings are a `u64`
//! length and bytes. Counts and lengths come from the file and are not trusted:
//! nothing is allocated before it was read.

use std::io::{self, Read};

/// What the daemon wants to know of a model file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.file_type` in words, e.g. `Q8_0`.
    pub quantization: String,
    /// `<architecture>.context_length`.
    pub context_train: u32,
    /// Sum over all tensors of their elements.
    pub parameters: u64,
}

/// Why a header cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Not a GGUF at all.
    #[error("not a GGUF file")]
    Magic,
    /// A version this reader does not know.
    #[error("GGUF version {0} is not supported")]
    Version(u32),
    /// A value makes no sense.
    #[error("broken GGUF header: {0}")]
    Broken(&'static str),
    /// The file ends in the header, or cannot be read.
    #[error("cannot read the header: {0}")]
    Io(#[from] io::Error),
}

/// Longest key or value that is kept.
const STRING_MAX: u64 = 1 << 16;
/// More entries than any real file has.
const COUNT_MAX: u64 = 1 << 20;
/// Arrays hold vocabularies; none real is longer.
const ARRAY_MAX: u64 = 1 << 24;

/// Reads key-values and tensor table from the start of a file; `from` should be
/// buffered.
///
/// # Errors
/// [`GgufError`]; never panics or allocates by the file's word.
pub fn read_header(from: &mut impl Read) -> Result<Header, GgufError> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic).map_err(|_| GgufError::Magic)?;
    if &magic != b"GGUF" {
        return Err(GgufError::Magic);
    }
    let version = u32(from)?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensors = bounded(u64(from)?, COUNT_MAX, "tensor count")?;
    let pairs = bounded(u64(from)?, COUNT_MAX, "key count")?;

    let mut header = Header::default();
    for _ in 0..pairs {
        let key = string(from)?;
        let kind = u32(from)?;
        match key.as_str() {
            "general.architecture" if kind == STRING => header.architecture = string(from)?,
            "general.file_type" if kind == U32 => {
                file_type(u32(from)?).clone_into(&mut header.quantization);
            }
            // The architecture comes first by the format's advice, but not by rule.
            key if key.ends_with(".context_length") && kind == U32 => {
                header.context_train = u32(from)?;
            }
            _ => skip(from, kind, 0)?,
        }
    }
    for _ in 0..tensors {
        string(from)?;
        let dimensions = u32(from)?;
        if dimensions > 4 {
            return Err(GgufError::Broken("a tensor of more than four dimensions"));
        }
        let mut elements = 1u64;
        for _ in 0..dimensions {
            elements = elements.saturating_mul(u64(from)?);
        }
        header.parameters = header.parameters.saturating_add(elements);
        discard(from, 4 + 8)?;
    }
    Ok(header)
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a scalar type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn skip(from: &mut impl Read, kind: u32, depth: u32) -> Result<(), GgufError> {
    if let Some(width) = width(kind) {
        return discard(from, width);
    }
    match kind {
        STRING => {
            let len = u64(from)?;
            discard(from, len)
        }
        ARRAY if depth < 2 => {
            let inner = u32(from)?;
            let count = bounded(u64(from)?, ARRAY_MAX, "array length")?;
            if let Some(width) = width(inner) {
                return discard(from, width * count);
            }
            (0..count).try_for_each(|_| skip(from, inner, depth + 1))
        }
        _ => Err(GgufError::Broken("an unknown value type")),
    }
}

fn bounded(value: u64, max: u64, what: &'static str) -> Result<u64, GgufError> {
    if value > max {
        Err(GgufError::Broken(what))
    } else {
        Ok(value)
    }
}

fn discard(from: &mut impl Read, bytes: u64) -> Result<(), GgufError> {
    let copied = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if copied < bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

fn string(from: &mut impl Read) -> Result<String, GgufError> {
    let len = bounded(u64(from)?, STRING_MAX, "string length")?;
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn u32(from: &mut impl Read) -> Result<u32, GgufError> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64(from: &mut impl Read) -> Result<u64, GgufError> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// llama.cpp's `enum llama_ftype`.
fn file_type(n: u32) -> &'static str {
    match n {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(s: &str) -> Vec<u8> {
        let mut out = (s.len() as u64).to_le_bytes().to_vec();
        out.extend(s.bytes());
        out
    }

    fn sample() -> Vec<u8> {
        let mut f = b"GGUF".to_vec();
        f.extend(3u32.to_le_bytes());
        f.extend(1u64.to_le_bytes());
        f.extend(4u64.to_le_bytes());
        f.extend(
            [
                text("general.architecture"),
                STRING.to_le_bytes().to_vec(),
                text("llama"),
            ]
            .concat(),
        );
        f.extend(
            [
                text("tokens"),
                ARRAY.to_le_bytes().to_vec(),
                STRING.to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        f.extend([2u64.to_le_bytes().to_vec(), text("a"), text("b")].concat());
        f.extend(
            [
                text("llama.context_length"),
                U32.to_le_bytes().to_vec(),
                2048u32.to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        f.extend(
            [
                text("general.file_type"),
                U32.to_le_bytes().to_vec(),
                7u32.to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        f.extend([text("w"), 2u32.to_le_bytes().to_vec()].concat());
        f.extend([3u64.to_le_bytes(), 5u64.to_le_bytes()].concat());
        f.extend([0; 12]);
        f
    }

    #[test]
    fn what_matters_is_read() {
        let header = read_header(&mut sample().as_slice()).unwrap();
        let expected = Header {
            architecture: "llama".into(),
            quantization: "Q8_0".into(),
            context_train: 2048,
            parameters: 15,
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = sample();
        for cut in 0..whole.len() {
            assert!(read_header(&mut &whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_bytes_panics(at in 0usize..160, byte: u8) {
            let mut file = sample();
            if let Some(b) = file.get_mut(at) {
                *b = byte;
            }
            _ = read_header(&mut file.as_slice());
        }
    }
}
