//! A small streaming GGUF writer, for the models that `make-model` makes.
//!
//! The format is the one that ggml documents (docs/gguf.md, version 3): a header of
//! key-values and tensor descriptions, then the tensors' bytes, each aligned.

use std::io::{self, Write};

/// ggml's default alignment of tensor data, `general.alignment`.
const ALIGNMENT: u64 = 32;
/// Elements of one block of the block types.
const BLOCK: usize = 32;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 signed bytes with one scale.
    Q8_0,
    /// Blocks of 32 four-bit numbers with one scale.
    Q4_0,
}

impl ElementType {
    /// The number in a tensor's description (`enum ggml_type`).
    fn ggml_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
        }
    }

    /// `general.file_type` of a model made of it (`enum llama_ftype`).
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
        }
    }

    /// Bytes of `n` elements; `n` is a multiple of 32 for the block types.
    pub(super) fn bytes(self, n: u64) -> u64 {
        match self {
            Self::F32 => n * 4,
            Self::F16 => n * 2,
            Self::Q8_0 => n / BLOCK as u64 * 34,
            Self::Q4_0 => n / BLOCK as u64 * 18,
        }
    }

    /// Appends `values` in this form to `out`.
    pub(super) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|v| half(*v).to_le_bytes())),
            Self::Q8_0 => values
                .chunks(BLOCK)
                .for_each(|block| encode_q8_0(block, out)),
            Self::Q4_0 => values
                .chunks(BLOCK)
                .for_each(|block| encode_q4_0(block, out)),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "within i8 after the division"
)]
fn encode_q8_0(block: &[f32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let scale = largest / 127.0;
    out.extend(half(scale).to_le_bytes());
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    out.extend(
        block
            .iter()
            .map(|v| ((v * inverse).round() as i8).cast_unsigned()),
    );
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=15"
)]
fn encode_q4_0(block: &[f32], out: &mut Vec<u8>) {
    // The value of largest magnitude becomes -8, the end of the four-bit range.
    let extreme = block
        .iter()
        .copied()
        .fold(0.0_f32, |m, v| if v.abs() > m.abs() { v } else { m });
    let scale = extreme / -8.0;
    out.extend(half(scale).to_le_bytes());
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let four = |v: f32| (v * inverse + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = block.split_at(BLOCK / 2);
    out.extend(low.iter().zip(high).map(|(l, h)| four(*l) | four(*h) << 4));
}

/// IEEE half precision, rounded to nearest even; too small becomes zero, too large
/// infinite. Subnormal halves are flushed: weights that small do not matter.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude < 0x3880_0000 {
        return sign;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    let rounded = magnitude + 0x0fff + ((magnitude >> 13) & 1);
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

/// A value of the header.
#[derive(Clone, Debug)]
pub enum Value {
    /// 32-bit unsigned.
    U32(u32),
    /// 32-bit float.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// 32-bit signed numbers.
    Numbers(Vec<i32>),
}

/// One tensor to come.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name as llama.cpp expects it.
    pub name: String,
    /// Elements of a row, then rows; one number for a vector.
    pub shape: Vec<u64>,
    /// How it is stored.
    pub element: ElementType,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        self.element.bytes(self.shape.iter().product())
    }
}

/// Writes the header; the tensors' data follow in the same order, each passed
/// through [`pad`].
///
/// # Errors
/// Those of the writer.
pub fn write_header(
    out: &mut impl Write,
    values: &[(String, Value)],
    tensors: &[Tensor],
) -> io::Result<()> {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        put_text(&mut head, key);
        put_value(&mut head, value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&mut head, &tensor.name);
        put_u32(
            &mut head,
            u32::try_from(tensor.shape.len()).map_err(io::Error::other)?,
        );
        for n in &tensor.shape {
            head.extend(n.to_le_bytes());
        }
        put_u32(&mut head, tensor.element.ggml_type());
        head.extend(offset.to_le_bytes());
        offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
    }
    out.write_all(&head)?;
    pad(out, head.len() as u64)
}

/// Fills up to the alignment after `written` bytes.
///
/// # Errors
/// Those of the writer.
pub fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(ALIGNMENT) - written;
    io::copy(&mut io::Read::take(io::repeat(0), missing), out).map(drop)
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend(n.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Writes the value behind its type (`enum gguf_type`).
fn put_value(out: &mut Vec<u8>, value: &Value) {
    const U32: u32 = 4;
    const I32: u32 = 5;
    const F32: u32 = 6;
    const BOOL: u32 = 7;
    const TEXT: u32 = 8;
    const ARRAY: u32 = 9;
    match value {
        Value::U32(n) => {
            put_u32(out, U32);
            put_u32(out, *n);
        }
        Value::F32(n) => {
            put_u32(out, F32);
            out.extend(n.to_le_bytes());
        }
        Value::Bool(yes) => {
            put_u32(out, BOOL);
            out.push(u8::from(*yes));
        }
        Value::Text(text) => {
            put_u32(out, TEXT);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            put_u32(out, ARRAY);
            put_u32(out, TEXT);
            out.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::Numbers(numbers) => {
            put_u32(out, ARRAY);
            put_u32(out, I32);
            out.extend((numbers.len() as u64).to_le_bytes());
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        assert_eq!(half(0.0), 0);
        assert_eq!(half(1.0), 0x3c00);
        assert_eq!(half(-2.0), 0xc000);
        assert_eq!(half(65504.0), 0x7bff);
        assert_eq!(half(1e9), 0x7c00);
        assert_eq!(half(1.0 / 3.0), 0x3555);
    }

    #[test]
    fn blocks_have_ggml_s_sizes_and_keep_their_values() {
        let values: Vec<f32> = (0..32u8).map(|n| f32::from(n) - 16.0).collect();
        let mut out = Vec::new();
        ElementType::Q8_0.encode(&values, &mut out);
        assert_eq!(out.len() as u64, ElementType::Q8_0.bytes(32));
        assert_eq!(out[2].cast_signed(), -127);
        out.clear();
        ElementType::Q4_0.encode(&values, &mut out);
        assert_eq!(out.len() as u64, ElementType::Q4_0.bytes(32));
        // -16 is the extreme: four-bit 0; 0, in the upper half, is 8.
        assert_eq!(out[2], 0x80);
    }

    #[test]
    fn data_begin_aligned() {
        let mut out = Vec::new();
        let tensors = [Tensor {
            name: "x".into(),
            shape: vec![3],
            element: ElementType::F32,
        }];
        write_header(&mut out, &[("a".into(), Value::U32(1))], &tensors).unwrap();
        assert_eq!(out.len() % 32, 0);
        assert_eq!(&out[..4], b"GGUF");
    }
}
