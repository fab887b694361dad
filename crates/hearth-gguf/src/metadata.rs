//! All key-values of a file, for those who show them.

use std::io::Read;

use super::read::{ARRAY, BOOL, STRING, array, bytes, flag, skip_elements, text, u32, u64};
use super::{GgufError, begin, string};

/// The most elements of all lists together: no real vocabulary with its merges is larger, and
/// each element takes memory.
const ELEMENTS_MAX: u64 = 1 << 21;
/// Lists may contain lists, once.
const DEPTH_MAX: u32 = 2;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed one.
    Signed(i64),
    /// A number of 32 or 64 bits.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// A text; empty where it is too long to be read.
    Text(String),
    /// A list; empty where it is longer than wanted.
    List(Vec<MetaValue>),
}

/// Reads the key-values from the start of a file, in their order; lists of more than `longest`
/// elements are read as empty ones. `from` should be buffered.
///
/// # Errors
/// As [`read_header`](super::read_header).
pub fn read_metadata(
    from: &mut impl Read,
    longest: u64,
) -> Result<Vec<(String, MetaValue)>, GgufError> {
    let (_, count) = begin(from)?;
    let mut room = Room {
        longest,
        elements: ELEMENTS_MAX,
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = string(from)?;
        let kind = u32(from)?;
        let value = room.value(from, kind, 0)?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// How much may be stored.
struct Room {
    longest: u64,
    elements: u64,
}

impl Room {
    fn value(
        &mut self,
        from: &mut impl Read,
        kind: u32,
        depth: u32,
    ) -> Result<MetaValue, GgufError> {
        Ok(match kind {
            0 => MetaValue::Unsigned(bytes::<1>(from)?[0].into()),
            1 => MetaValue::Signed(i8::from_le_bytes(bytes(from)?).into()),
            2 => MetaValue::Unsigned(u16::from_le_bytes(bytes(from)?).into()),
            3 => MetaValue::Signed(i16::from_le_bytes(bytes(from)?).into()),
            4 => MetaValue::Unsigned(u32(from)?.into()),
            5 => MetaValue::Signed(i32::from_le_bytes(bytes(from)?).into()),
            6 => MetaValue::Float(widened(f32::from_le_bytes(bytes(from)?))),
            BOOL => MetaValue::Flag(flag(from)?),
            STRING => MetaValue::Text(text(from)?.unwrap_or_default()),
            10 => MetaValue::Unsigned(u64(from)?),
            11 => MetaValue::Signed(i64::from_le_bytes(bytes(from)?)),
            12 => MetaValue::Float(f64::from_le_bytes(bytes(from)?)),
            ARRAY if depth < DEPTH_MAX => MetaValue::List(self.list(from, depth)?),
            _ => return Err(GgufError::Broken("an unknown value type")),
        })
    }

    fn list(&mut self, from: &mut impl Read, depth: u32) -> Result<Vec<MetaValue>, GgufError> {
        let (inner, count) = array(from)?;
        if count > self.longest.min(self.elements) {
            skip_elements(from, inner, count, depth)?;
            return Ok(Vec::new());
        }
        self.elements -= count;
        (0..count)
            .map(|_| self.value(from, inner, depth + 1))
            .collect()
    }
}

/// The shortest decimal that denotes a number of 32 bits: 0.000001, not 0.00000099999999747.
fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
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

    fn file(pairs: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
        let mut f = b"GGUF".to_vec();
        f.extend(3u32.to_le_bytes());
        f.extend(0u64.to_le_bytes());
        f.extend((pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in pairs {
            f.extend([text(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
        }
        f
    }

    fn list(inner: u32, count: u64, values: &[u8]) -> Vec<u8> {
        [&inner.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
    }

    #[test]
    fn every_type_is_read() {
        let nested = list(1, 2, &[0xff, 1]);
        let file = file(&[
            ("a", 0, vec![7]),
            ("b", 1, vec![0xff]),
            ("c", 2, vec![1, 2]),
            ("d", 3, vec![0xfe, 0xff]),
            ("e", 4, 5u32.to_le_bytes().to_vec()),
            ("f", 5, (-6i32).to_le_bytes().to_vec()),
            ("g", 6, 1e-6f32.to_le_bytes().to_vec()),
            ("h", BOOL, vec![1]),
            ("i", STRING, text("x")),
            ("j", ARRAY, list(ARRAY, 1, &nested)),
            ("k", 10, 8u64.to_le_bytes().to_vec()),
            ("l", 11, (-9i64).to_le_bytes().to_vec()),
            ("m", 12, 0.5f64.to_le_bytes().to_vec()),
        ]);
        let read = read_metadata(&mut file.as_slice(), 9).unwrap();
        let values: Vec<MetaValue> = read.into_iter().map(|(_, value)| value).collect();
        let inner = MetaValue::List(vec![MetaValue::Signed(-1), MetaValue::Signed(1)]);
        let expected = [
            MetaValue::Unsigned(7),
            MetaValue::Signed(-1),
            MetaValue::Unsigned(0x201),
            MetaValue::Signed(-2),
            MetaValue::Unsigned(5),
            MetaValue::Signed(-6),
            MetaValue::Float(1e-6),
            MetaValue::Flag(true),
            MetaValue::Text("x".into()),
            MetaValue::List(vec![inner]),
            MetaValue::Unsigned(8),
            MetaValue::Signed(-9),
            MetaValue::Float(0.5),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_long_list_is_read_as_an_empty_one() {
        let tokens = list(STRING, 3, &[text("a"), text("b"), text("c")].concat());
        let file = file(&[("t", ARRAY, tokens), ("after", BOOL, vec![0])]);
        for (longest, count) in [(2, 0), (3, 3)] {
            let read = read_metadata(&mut file.as_slice(), longest).unwrap();
            let MetaValue::List(tokens) = &read[0].1 else {
                panic!("{read:?}");
            };
            assert_eq!(tokens.len(), count);
            assert_eq!(read[1], ("after".into(), MetaValue::Flag(false)));
        }
        let nested = (0..4).fold(vec![0], |inner, _| list(ARRAY, 1, &inner));
        let file = self::file(&[("x", ARRAY, nested)]);
        assert!(read_metadata(&mut file.as_slice(), 9).is_err());
    }

    proptest! {
        #[test]
        fn damaged_files_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            cut in 0_usize..200,
        ) {
            let whole = file(&[
                ("a", ARRAY, list(STRING, 1, &text("x"))),
                ("b", 4, 5u32.to_le_bytes().to_vec()),
            ]);
            let kept = &whole[..cut.min(whole.len())];
            _ = read_metadata(&mut [kept, bytes.as_slice()].concat().as_slice(), 9);
        }
    }
}
