//! A small streaming writer of GGUF files.
//!
//! The format is the one that ggml documents (docs/gguf.md, version 3): a header of
//! key-values and tensor descriptions, then the tensors' bytes, each aligned.

mod blocks;

use std::io::{self, Write};

pub use blocks::ElementType;

/// ggml's default alignment of tensor data, `general.alignment`.
const ALIGNMENT: u64 = 32;
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
    /// 32-bit floats.
    Floats(Vec<f32>),
}

/// The description of one tensor.
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

/// Pads to the alignment after `written` bytes.
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

/// Writes the type (`enum gguf_type`), then the value.
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
            for text in texts {
                put_text(out, text);
            }
        }
        Value::Numbers(numbers) => {
            put_u32(out, ARRAY);
            put_u32(out, I32);
            out.extend((numbers.len() as u64).to_le_bytes());
            out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        }
        Value::Floats(numbers) => {
            put_u32(out, ARRAY);
            put_u32(out, F32);
            out.extend((numbers.len() as u64).to_le_bytes());
            out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_data_are_aligned() {
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
