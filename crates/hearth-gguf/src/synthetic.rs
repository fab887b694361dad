//! Models with random weights: real size and speed, meaningless output. For tests and
//! for measuring a board without a download.

mod adapter;
mod encoder;
mod family;
mod projector;
mod projector_shape;
mod shape;
mod sound_projector;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use crate::takes_more_bits;
use crate::write::{self, ElementType, Tensor, Value};

pub use adapter::{AdapterShape, make_adapter};
pub use encoder::{Encoder, make_encoder};
pub use family::{FAMILIES, Family, make_family};
pub use projector::{PROJECTORS, Projector, ProjectorKind, make_projector};
pub use projector_shape::ProjectorShape;
pub use shape::{SHAPES, Shape};
pub use sound_projector::{SOUND_PROJECTORS, SoundProjector};

/// Control tokens after the 256 byte tokens.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const FIRST_FILLER: u32 = 256 + 3;
const _: () = assert!(CONTROL.len() == 3);
/// Values generated and written at a time: bounds the memory needed.
const SLICE: u64 = 1 << 18;

/// How a model's matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// All in one form.
    All(ElementType),
    /// llama.cpp's mixture of this name: most in [`ElementType::Q4K`], the most sensitive
    /// ones in [`ElementType::Q6K`].
    Q4KM,
}

/// The names of [`Storage`]s.
pub const STORAGES: [(&str, Storage); 5] = [
    ("f32", Storage::All(ElementType::F32)),
    ("f16", Storage::All(ElementType::F16)),
    ("q8_0", Storage::All(ElementType::Q8_0)),
    ("q4_k_m", Storage::Q4KM),
    ("q4_0", Storage::All(ElementType::Q4_0)),
];

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase();
        let found = STORAGES.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, storage)| *storage).ok_or_else(|| {
            let names = STORAGES.map(|(name, _)| name).join(", ");
            format!("models of random weights come in {names}")
        })
    }
}

impl Storage {
    /// `general.file_type` (`enum llama_ftype`).
    fn file_type(self) -> u32 {
        match self {
            Self::All(ElementType::F32) => 0,
            Self::All(ElementType::F16) => 1,
            Self::All(ElementType::Q4_0) => 2,
            Self::All(ElementType::Q5_0) => 8,
            Self::All(ElementType::Q8_0) => 7,
            Self::All(ElementType::Q4K | ElementType::Q6K) | Self::Q4KM => 15,
        }
    }

    /// How a matrix with rows of this many elements is stored; `matters` marks those where
    /// quantization loses most.
    fn of(self, columns: u64, matters: bool) -> ElementType {
        let (wanted, instead) = match (self, matters) {
            (Self::All(element), _) => (element, ElementType::Q8_0),
            (Self::Q4KM, false) => (ElementType::Q4K, ElementType::Q5_0),
            (Self::Q4KM, true) => (ElementType::Q6K, ElementType::Q8_0),
        };
        // llama.cpp's fallback for rows that are not a multiple of 256.
        if columns.is_multiple_of(wanted.block()) {
            wanted
        } else {
            instead
        }
    }
}

/// The bytes of a model's tensors, and how many of them are read for one token: all but
/// the embeddings, unless these are also the output matrix.
pub fn sizes(shape: Shape, storage: Storage) -> (u64, u64) {
    let tensors = tensors(shape, storage);
    let bytes = |t: &Tensor| t.element.bytes(t.shape.iter().product());
    let all = tensors.iter().map(bytes).sum();
    let looked_up = if shape.tied { 0 } else { bytes(&tensors[0]) };
    (all, all - looked_up)
}

/// Writes a model file and reports how many of its weights are done, and the total. The
/// same arguments produce the same bytes.
///
/// # Errors
/// Those of the file.
pub fn make(
    path: &Path,
    shape: Shape,
    storage: Storage,
    seed: u64,
    report: &mut dyn FnMut(u64, u64),
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let tensors = tensors(shape, storage);
    write::write_header(&mut out, &header(shape, storage), &tensors)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut values = Vec::new();
    let mut bytes = Vec::new();
    let weights = shape.parameters();
    let mut done = 0;
    for tensor in &tensors {
        let total: u64 = tensor.shape.iter().product();
        let mut left = total;
        while left > 0 {
            let n = left.min(SLICE);
            left -= n;
            values.clear();
            if tensor.shape.len() == 1 {
                // The norms' weights: one keeps every layer's output in range.
                values.resize(usize::try_from(n).unwrap_or(0), 1.0);
            } else {
                let spread = spread(tensor.shape[0]);
                values.extend((0..n).map(|_| uniform(&mut random) * spread));
            }
            bytes.clear();
            tensor.element.encode(&values, &mut bytes);
            out.write_all(&bytes)?;
            done += n;
            report(done, weights);
        }
        write::pad(&mut out, tensor.element.bytes(total))?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Uniform in ±spread has variance spread²/3; this keeps a unit input at unit
/// variance.
#[expect(clippy::cast_precision_loss, reason = "a row is far below 2^24")]
fn spread(inputs: u64) -> f32 {
    (3.0 / inputs as f32).sqrt()
}

fn tensors(shape: Shape, storage: Storage) -> Vec<Tensor> {
    let (width, ff) = (u64::from(shape.width), u64::from(shape.feed_forward));
    let kv = width / u64::from(shape.heads) * u64::from(shape.kv_heads);
    let matrix = |name: String, columns, rows, matters| Tensor {
        name,
        shape: vec![columns, rows],
        element: storage.of(columns, matters),
    };
    let vector = |name: String| Tensor {
        name,
        shape: vec![width],
        element: ElementType::F32,
    };
    let mut all = vec![
        matrix(
            "token_embd.weight".into(),
            width,
            u64::from(shape.vocab),
            true,
        ),
        vector("output_norm.weight".into()),
    ];
    if !shape.tied {
        let vocab = u64::from(shape.vocab);
        all.push(matrix("output.weight".into(), width, vocab, true));
    }
    for n in 0..shape.layers {
        let more = takes_more_bits(n, shape.layers);
        all.extend([
            vector(format!("blk.{n}.attn_norm.weight")),
            matrix(format!("blk.{n}.attn_q.weight"), width, width, false),
            matrix(format!("blk.{n}.attn_k.weight"), width, kv, false),
            matrix(format!("blk.{n}.attn_v.weight"), width, kv, more),
            matrix(format!("blk.{n}.attn_output.weight"), width, width, false),
            vector(format!("blk.{n}.ffn_norm.weight")),
            matrix(format!("blk.{n}.ffn_gate.weight"), width, ff, false),
            matrix(format!("blk.{n}.ffn_up.weight"), width, ff, false),
            matrix(format!("blk.{n}.ffn_down.weight"), ff, width, more),
        ]);
    }
    all
}

fn header(shape: Shape, storage: Storage) -> Vec<(String, Value)> {
    let text = |s: &str| Value::Text(s.to_owned());
    let values = [
        ("general.architecture", text("llama")),
        ("general.name", text("random weights")),
        ("general.file_type", Value::U32(storage.file_type())),
        ("llama.block_count", Value::U32(shape.layers)),
        ("llama.context_length", Value::U32(32_768)),
        ("llama.embedding_length", Value::U32(shape.width)),
        ("llama.feed_forward_length", Value::U32(shape.feed_forward)),
        ("llama.attention.head_count", Value::U32(shape.heads)),
        ("llama.attention.head_count_kv", Value::U32(shape.kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        (
            "llama.rope.dimension_count",
            Value::U32(shape.width / shape.heads),
        ),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", Value::U32(shape.vocab)),
    ];
    let values = values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    values.chain(vocabulary(shape.vocab)).collect()
}

/// Bytes, control tokens and words.
fn vocabulary(vocab: u32) -> impl Iterator<Item = (String, Value)> {
    // llama.cpp's token types: 1 normal, 3 control.
    let kind = |n| {
        if (256..FIRST_FILLER).contains(&n) {
            3
        } else {
            1
        }
    };
    let text = |s: &str| Value::Text(s.to_owned());
    let values = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        (
            "tokenizer.ggml.tokens",
            Value::Texts((0..vocab).map(token_text).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Numbers((0..vocab).map(kind).collect()),
        ),
        // Without merges every byte is a separate token.
        ("tokenizer.ggml.merges", Value::Texts(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(256)),
        ("tokenizer.ggml.eos_token_id", Value::U32(258)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
}

/// Bytes in GPT-2's alphabet, control tokens, then filler words.
fn token_text(n: u32) -> String {
    match n {
        0..256 => byte_char(n).to_string(),
        256..FIRST_FILLER => CONTROL[(n - 256) as usize].to_owned(),
        _ => format!("{}w{n}", byte_char(u32::from(b' '))),
    }
}

/// GPT-2 writes bytes as characters: printable Latin-1 as itself, the others in
/// order from U+0100 on.
fn byte_char(byte: u32) -> char {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = if printable(byte) {
        byte
    } else {
        let before = (0..byte).filter(|b| !printable(*b)).count();
        0x100 + u32::try_from(before).unwrap_or(0)
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Uniform in -1 to 1.
fn uniform(random: &mut fastrand::Rng) -> f32 {
    random.f32() * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_llama_cpps() {
        let blocks = |n| (0..n).filter(|b| takes_more_bits(*b, n)).count();
        assert_eq!((blocks(16), blocks(24)), (8, 12));
        assert_eq!(Storage::Q4KM.of(2048, false), ElementType::Q4K);
        assert_eq!(Storage::Q4KM.of(896, false), ElementType::Q5_0);
        assert_eq!(Storage::Q4KM.of(896, true), ElementType::Q8_0);
    }

    #[test]
    fn every_byte_has_its_own_token() {
        let all: std::collections::HashSet<_> = (0..600).map(token_text).collect();
        assert_eq!(all.len(), 600);
        assert_eq!(token_text(u32::from(b' ')), "Ġ");
        assert_eq!(token_text(10), "Ċ");
    }
}
