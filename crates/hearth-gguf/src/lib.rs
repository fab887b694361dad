//! The header of a GGUF file, read defensively and without llama.cpp; the memory that its
//! model takes ([`fit`]); a writer ([`mod@write`]) and models with random weights
//! ([`synthetic`]).
//!
//! Format: ggml's docs/gguf.md. Everything is little-endian; strings are a `u64`
//! length and bytes. Counts and lengths come from the file and are not trusted:
//! memory is allocated only for bytes that were read.

#![warn(missing_docs)]

mod adapter;
mod file_type;
pub mod fit;
mod header;
mod infill;
mod kind;
mod metadata;
mod projector;
mod read;
mod split;
pub mod synthetic;
mod template;
mod types;
pub mod write;

use std::io::{self, Read};

use hearth_proto::Pooling;

pub use adapter::{AdapterError, Matrices, Matrix};
pub use file_type::{FILE_TYPES, FileType};
pub use header::{Header, Place, Recurrent, Shape, Weights};
pub use infill::InfillMarks;
pub use metadata::{MetaValue, read_metadata};
pub use projector::{ProjectorHeader, projector_memory, projector_memory_max};
use read::{BOOL, STRING, bounded, discard, flag, numbers, skip, string, text, texts, u32, u64};
pub use split::{MergeError, PartName, merge};
pub use types::{ElementType, takes_more_bits};

/// Why a header cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Not a GGUF file.
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

/// More entries than any real file has.
const COUNT_MAX: u64 = 1 << 20;

/// Reads key-values and tensor table from the start of a file; `from` should be
/// buffered.
///
/// # Errors
/// [`GgufError`]; never panics, and allocates no size that only the file claims.
pub fn read_header(from: &mut impl Read) -> Result<Header, GgufError> {
    let (tensors, pairs) = begin(from)?;
    let mut header = Header::default();
    for _ in 0..pairs {
        let key = string(from)?;
        let kind = u32(from)?;
        pair(from, &key, kind, &mut header)?;
    }
    for _ in 0..tensors {
        tensor(from, &mut header)?;
    }
    Ok(header)
}

/// Reads the beginning of a file: the number of tensors and that of key-values.
fn begin(from: &mut impl Read) -> Result<(u64, u64), GgufError> {
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
    Ok((tensors, pairs))
}

fn pair(from: &mut impl Read, key: &str, kind: u32, header: &mut Header) -> Result<(), GgufError> {
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    match key {
        "general.architecture" if kind == STRING => header.architecture = string(from)?,
        "tokenizer.chat_template" if kind == STRING => header.chat_template = text(from)?,
        "general.file_type" => {
            let n = numbers(from, kind)?.first().copied();
            n.and_then(FileType::of)
                .map_or("", |t| t.name)
                .clone_into(&mut header.quantization);
        }
        "general.type" if kind == STRING => header.kind = string(from)?,
        "general.name" if kind == STRING => header.name = string(from)?,
        "general.base_model.0.name" if kind == STRING => header.base_model = string(from)?,
        "adapter.type" if kind == STRING => header.matrices.adapter_type = string(from)?,
        "adapter.alora.invocation_tokens" => {
            header.matrices.is_activated = true;
            skip(from, kind)?;
        }
        "general.size_label" if kind == STRING => header.size_label = string(from)?,
        "tokenizer.ggml.tokens" => {
            let mut has_marks = false;
            let infill = &mut header.infill;
            let tokens = texts(from, kind, |token| {
                has_marks |= kind::is_mark(token);
                infill.see_token(token);
            })?;
            header.shape.vocabulary = count(tokens);
            header.has_chat_marks = has_marks;
        }
        "tokenizer.ggml.merges" => header.shape.merges = count(skip(from, kind)?),
        key if header.infill.see_key(key) => drop(skip(from, kind)?),
        key if key.starts_with("clip.") => projector::pair(from, key, kind, header)?,
        key => {
            // The format recommends the architecture as the first key, but does not require it.
            let name = key.split_once('.').map_or("", |(_, name)| name);
            match name {
                "pooling_type" => {
                    let number = numbers(from, kind)?.first().copied().unwrap_or(0);
                    header.pooling = Pooling::of(i32::try_from(number).unwrap_or(0));
                    return Ok(());
                }
                "attention.causal" if kind == BOOL => {
                    header.is_not_causal = !flag(from)?;
                    return Ok(());
                }
                _ => {}
            }
            match field(header, name) {
                Some(Field::All(all)) => *all = numbers(from, kind)?,
                Some(Field::Most(most)) => {
                    *most = numbers(from, kind)?.into_iter().max().unwrap_or(0);
                }
                None => drop(skip(from, kind)?),
            }
        }
    }
    Ok(())
}

/// The destination of a value.
enum Field<'a> {
    /// All numbers of an array.
    All(&'a mut Vec<u32>),
    /// A number, or the largest of an array.
    Most(&'a mut u32),
}

fn field<'a>(header: &'a mut Header, name: &str) -> Option<Field<'a>> {
    let shape = &mut header.shape;
    let recurrent = &mut shape.recurrent;
    Some(Field::Most(match name {
        "attention.head_count_kv" => return Some(Field::All(&mut shape.kv_heads)),
        "context_length" => &mut header.context_train,
        "rope.scaling.original_context_length" => &mut header.context_original,
        "block_count" => &mut shape.blocks,
        "embedding_length" => &mut shape.width,
        "feed_forward_length" => &mut shape.feed_forward,
        "attention.head_count" => &mut shape.heads,
        "attention.key_length" => &mut shape.key_length,
        "attention.value_length" => &mut shape.value_length,
        "attention.sliding_window" => &mut shape.sliding_window,
        "attention.shared_kv_layers" => &mut shape.shared_kv_blocks,
        "vocab_size" if shape.vocabulary == 0 => &mut shape.vocabulary,
        "expert_used_count" => &mut shape.experts_used,
        "expert_feed_forward_length" => &mut shape.expert_feed_forward,
        "ssm.conv_kernel" => &mut recurrent.conv_kernel,
        "ssm.inner_size" => &mut recurrent.inner_size,
        "ssm.state_size" => &mut recurrent.state_size,
        "ssm.group_count" => &mut recurrent.group_count,
        "wkv.head_size" => &mut recurrent.wkv_head_size,
        "shortconv.l_cache" => &mut recurrent.short_conv,
        "full_attention_interval" => &mut recurrent.attention_interval,
        _ => return None,
    }))
}

fn tensor(from: &mut impl Read, header: &mut Header) -> Result<(), GgufError> {
    let name = string(from)?;
    let dimensions = u32(from)?;
    if dimensions > 4 {
        return Err(GgufError::Broken("a tensor of more than four dimensions"));
    }
    let (mut elements, mut columns, mut rows) = (1u64, 0, 0);
    for n in 0..dimensions {
        let size = u64(from)?;
        elements = elements.saturating_mul(size);
        match n {
            0 => columns = size,
            1 => rows = size,
            _ => {}
        }
    }
    let element = ElementType(u32(from)?);
    discard(from, 8)?;
    header.parameters = header.parameters.saturating_add(elements);
    header.matrices.add(&name, columns, rows);
    header.has_long_factors |= name.starts_with("rope_factors_long.");
    let place = place(&name);
    let bytes = element.bytes(elements);
    let at = header
        .weights
        .iter()
        .position(|w| (w.place, w.element) == (place, element));
    let at = at.unwrap_or_else(|| {
        header.weights.push(Weights {
            place,
            element,
            bytes: 0,
            in_eights: 0,
        });
        header.weights.len() - 1
    });
    if let Some(sum) = header.weights.get_mut(at) {
        sum.bytes = sum.bytes.saturating_add(bytes);
        if (2..=3).contains(&dimensions) && rows.is_multiple_of(8) {
            sum.in_eights = sum.in_eights.saturating_add(bytes);
        }
    }
    Ok(())
}

fn place(name: &str) -> Place {
    match name {
        "output.weight" => Place::Output,
        _ if name.starts_with("blk.") => Place::Block,
        // `token_embd`, `per_layer_token_embd`, `position_embd`, `token_types`.
        _ if name.contains("_embd.") || name.starts_with("token_types") => Place::Embedding,
        _ => Place::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const U32: u32 = 4;
    const I32: u32 = 5;
    const ARRAY: u32 = 9;

    fn text(s: &str) -> Vec<u8> {
        let mut out = (s.len() as u64).to_le_bytes().to_vec();
        out.extend(s.bytes());
        out
    }

    fn sample() -> Vec<u8> {
        let mut f = b"GGUF".to_vec();
        f.extend(3u32.to_le_bytes());
        f.extend(3u64.to_le_bytes());
        f.extend(6u64.to_le_bytes());
        let key = |name: &str, kind: u32, value: Vec<u8>| {
            [text(name), kind.to_le_bytes().to_vec(), value].concat()
        };
        let array = |kind: u32, length: u64, values: Vec<u8>| {
            [&kind.to_le_bytes()[..], &length.to_le_bytes(), &values].concat()
        };
        let tokens = [text("a"), text("b")].concat();
        let heads = [4i32, 0, -1].map(i32::to_le_bytes).concat();
        f.extend(key("general.architecture", STRING, text("llama")));
        f.extend(key("tokenizer.chat_template", STRING, text("{{ x }}")));
        f.extend(key(
            "tokenizer.ggml.tokens",
            ARRAY,
            array(STRING, 2, tokens),
        ));
        f.extend(key(
            "llama.context_length",
            U32,
            2048u32.to_le_bytes().to_vec(),
        ));
        f.extend(key("general.file_type", U32, 7u32.to_le_bytes().to_vec()));
        f.extend(key(
            "llama.attention.head_count_kv",
            ARRAY,
            array(I32, 3, heads),
        ));
        for (name, element) in [
            ("token_embd.weight", 1u32),
            ("blk.0.attn_q.weight", 0),
            ("blk.1.attn_q.weight", 0),
        ] {
            f.extend([text(name), 2u32.to_le_bytes().to_vec()].concat());
            f.extend([3u64.to_le_bytes(), 16u64.to_le_bytes()].concat());
            f.extend(element.to_le_bytes());
            f.extend([0; 8]);
        }
        f
    }

    #[test]
    fn the_header_fields_are_read() {
        let header = read_header(&mut sample().as_slice()).unwrap();
        let expected = Header {
            kind: String::new(),
            name: String::new(),
            size_label: String::new(),
            base_model: String::new(),
            matrices: Matrices {
                all: ["token_embd.weight", "attn_q.weight"]
                    .map(|name| Matrix {
                        name: name.into(),
                        columns: 3,
                        rows: 16,
                    })
                    .into(),
                blocks: 2,
                ..Matrices::default()
            },
            pooling: Pooling::None,
            is_not_causal: false,
            has_chat_marks: false,
            infill: InfillMarks::default(),
            projector: None,
            architecture: "llama".into(),
            quantization: "Q8_0".into(),
            context_train: 2048,
            context_original: 0,
            has_long_factors: false,
            parameters: 3 * 3 * 16,
            chat_template: Some("{{ x }}".into()),
            shape: Shape {
                kv_heads: vec![4, 0, 0],
                vocabulary: 2,
                ..Shape::default()
            },
            weights: vec![
                Weights {
                    place: Place::Embedding,
                    element: ElementType::F16,
                    bytes: 96,
                    in_eights: 96,
                },
                Weights {
                    place: Place::Block,
                    element: ElementType::F32,
                    bytes: 2 * 192,
                    in_eights: 2 * 192,
                },
            ],
        };
        assert_eq!(header, expected);
        assert_eq!(header.weight_bytes(), 480);
        assert!(header.is_tied());
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
        fn changed_bytes_do_not_panic(at in 0usize..570, byte: u8) {
            let mut file = sample();
            if let Some(b) = file.get_mut(at) {
                *b = byte;
            }
            _ = read_header(&mut file.as_slice());
        }
    }
}
