//! Reading values one by one; no allocation size is taken from the file unchecked.

use std::io::{self, Read};

use super::GgufError;

/// Longest key or value that is kept.
const STRING_MAX: u64 = 1 << 16;
/// Arrays hold vocabularies; no real one is longer.
const ARRAY_MAX: u64 = 1 << 24;
/// Longest array that is kept: one number per block, and llama.cpp has at most 512 blocks
/// (`LLAMA_MAX_LAYERS`).
const NUMBERS_MAX: u64 = 512;

/// Longest text of a list that is examined: tokens are short.
const TOKEN_MAX: usize = 64;

pub(super) const BOOL: u32 = 7;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

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

/// Skips a value; for an array, returns its number of elements.
pub(super) fn skip(from: &mut impl Read, kind: u32) -> Result<u64, GgufError> {
    skip_nested(from, kind, 0)
}

fn skip_nested(from: &mut impl Read, kind: u32, depth: u32) -> Result<u64, GgufError> {
    if let Some(width) = width(kind) {
        return discard(from, width).map(|()| 0);
    }
    match kind {
        STRING => {
            let len = u64(from)?;
            discard(from, len).map(|()| 0)
        }
        ARRAY if depth < 2 => {
            let (inner, count) = array(from)?;
            skip_elements(from, inner, count, depth)?;
            Ok(count)
        }
        _ => Err(GgufError::Broken("an unknown value type")),
    }
}

pub(super) fn skip_elements(
    from: &mut impl Read,
    inner: u32,
    count: u64,
    depth: u32,
) -> Result<(), GgufError> {
    if let Some(width) = width(inner) {
        return discard(from, width * count);
    }
    (0..count).try_for_each(|_| skip_nested(from, inner, depth + 1).map(drop))
}

/// Integers: one, or a short array of them. Empty for anything else, which is skipped.
pub(super) fn numbers(from: &mut impl Read, kind: u32) -> Result<Vec<u32>, GgufError> {
    if is_whole(kind) {
        return Ok(vec![whole(from, kind)?]);
    }
    if kind != ARRAY {
        skip(from, kind)?;
        return Ok(Vec::new());
    }
    let (inner, count) = array(from)?;
    if !is_whole(inner) || count > NUMBERS_MAX {
        skip_elements(from, inner, count, 0)?;
        return Ok(Vec::new());
    }
    (0..count).map(|_| whole(from, inner)).collect()
}

/// Passes the short texts of a list to `show`; returns its number of elements. Anything
/// else is skipped.
pub(super) fn texts(
    from: &mut impl Read,
    kind: u32,
    mut show: impl FnMut(&str),
) -> Result<u64, GgufError> {
    if kind != ARRAY {
        return skip(from, kind);
    }
    let (inner, count) = array(from)?;
    if inner != STRING {
        skip_elements(from, inner, count, 0)?;
        return Ok(count);
    }
    let mut buffer = [0; TOKEN_MAX];
    for _ in 0..count {
        let length = u64(from)?;
        match usize::try_from(length) {
            Ok(length) if length <= buffer.len() => {
                let bytes = &mut buffer[..length];
                from.read_exact(bytes)?;
                if let Ok(text) = std::str::from_utf8(bytes) {
                    show(text);
                }
            }
            _ => discard(from, length)?,
        }
    }
    Ok(count)
}

/// A Boolean.
pub(super) fn flag(from: &mut impl Read) -> Result<bool, GgufError> {
    Ok(bytes::<1>(from)?[0] != 0)
}

fn is_whole(kind: u32) -> bool {
    matches!(kind, 0..=5 | 10 | 11)
}

/// An integer of any width; a negative one becomes 0, one too large `u32::MAX`.
fn whole(from: &mut impl Read, kind: u32) -> Result<u32, GgufError> {
    let signed = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    Ok(match kind {
        0 => u32::from(bytes::<1>(from)?[0]),
        1 => signed(i8::from_le_bytes(bytes(from)?).into()),
        2 => u32::from(u16::from_le_bytes(bytes(from)?)),
        3 => signed(i16::from_le_bytes(bytes(from)?).into()),
        4 => u32(from)?,
        5 => signed(i32::from_le_bytes(bytes(from)?).into()),
        10 => u32::try_from(u64(from)?).unwrap_or(u32::MAX),
        11 => signed(i64::from_le_bytes(bytes(from)?)),
        _ => return Err(GgufError::Broken("an unknown value type")),
    })
}

/// The type of an array's elements, and their number.
pub(super) fn array(from: &mut impl Read) -> Result<(u32, u64), GgufError> {
    let inner = u32(from)?;
    let count = bounded(u64(from)?, ARRAY_MAX, "array length")?;
    Ok((inner, count))
}

pub(super) fn bounded(value: u64, max: u64, what: &'static str) -> Result<u64, GgufError> {
    if value > max {
        Err(GgufError::Broken(what))
    } else {
        Ok(value)
    }
}

pub(super) fn discard(from: &mut impl Read, bytes: u64) -> Result<(), GgufError> {
    let copied = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if copied < bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// A text; `None` if it is too long, then it is skipped.
pub(super) fn text(from: &mut impl Read) -> Result<Option<String>, GgufError> {
    let len = u64(from)?;
    if len > STRING_MAX {
        return discard(from, len).map(|()| None);
    }
    characters(from, len).map(Some)
}

pub(super) fn string(from: &mut impl Read) -> Result<String, GgufError> {
    let len = bounded(u64(from)?, STRING_MAX, "string length")?;
    characters(from, len)
}

fn characters(from: &mut impl Read, len: u64) -> Result<String, GgufError> {
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn u32(from: &mut impl Read) -> Result<u32, GgufError> {
    bytes(from).map(u32::from_le_bytes)
}

pub(super) fn u64(from: &mut impl Read) -> Result<u64, GgufError> {
    bytes(from).map(u64::from_le_bytes)
}

pub(super) fn bytes<const N: usize>(from: &mut impl Read) -> Result<[u8; N], GgufError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
