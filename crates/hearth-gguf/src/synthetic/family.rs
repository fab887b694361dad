//! Tiny models of other architectures, for tests of how the engine handles their kinds of
//! memory. The keys and tensors are those that llama.cpp's loaders require
//! (src/models/*.cpp of llama-cpp-sys-2 0.1.161).

mod attention;
mod recipe;
mod recurrent;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use self::attention::{gemma3, long_rope, mla, moe};
use self::recipe::{Fill, VOCABULARY, as_u32};
use self::recurrent::{granite_hybrid, lfm2, mamba, qwen35};
use super::{Encoder, make_encoder, spread, uniform, vocabulary};
use crate::write::{self, Tensor};

/// An architecture for which a tiny model with random weights can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Short convolutions, and attention in every third block.
    Lfm2,
    /// Gated delta nets, and attention in every fourth block.
    Qwen35,
    /// Mamba 2, and attention in every third block.
    GraniteHybrid,
    /// Mamba: a state in every block.
    Mamba,
    /// Gemma 3: a sliding window in five of six blocks.
    Gemma3,
    /// Phi 3 with rotation factors for short and for long contexts.
    LongRope,
    /// `DeepSeek` 2: keys and values are kept compressed.
    Mla,
    /// Qwen 3 with experts.
    Moe,
    /// An encoder and a decoder.
    T5,
    /// An encoder for embeddings.
    Bert,
}

/// The names of [`Family`]s.
pub const FAMILIES: [(&str, Family); 10] = [
    ("lfm2", Family::Lfm2),
    ("qwen35", Family::Qwen35),
    ("granite-hybrid", Family::GraniteHybrid),
    ("mamba", Family::Mamba),
    ("gemma3", Family::Gemma3),
    ("long-rope", Family::LongRope),
    ("mla", Family::Mla),
    ("moe", Family::Moe),
    ("t5", Family::T5),
    ("bert", Family::Bert),
];

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FAMILIES.iter().find(|(name, _)| *name == text);
        found.map(|(_, family)| *family).ok_or_else(|| {
            let names = FAMILIES.map(|(name, _)| name).join(", ");
            format!("tiny models of random weights come in {names}")
        })
    }
}

/// Writes a tiny model of an architecture. The same arguments produce the same bytes.
///
/// # Errors
/// Those of the file.
pub fn make_family(path: &Path, family: Family, seed: u64) -> io::Result<()> {
    let mut recipe = match family {
        Family::Lfm2 => lfm2(),
        Family::Qwen35 => qwen35(),
        Family::GraniteHybrid => granite_hybrid(),
        Family::Mamba => mamba(),
        Family::Gemma3 => gemma3(),
        Family::LongRope => long_rope(),
        Family::Mla => mla(),
        Family::Moe => moe(),
        Family::T5 => return make_encoder(path, Encoder::T5, seed),
        Family::Bert => return make_encoder(path, Encoder::Bert, seed),
    };
    let vocab = as_u32(VOCABULARY);
    recipe.values.extend(vocabulary(vocab));
    let tensors: Vec<Tensor> = recipe.tensors.iter().map(|(t, _)| t.clone()).collect();
    let mut out = BufWriter::new(File::create(path)?);
    write::write_header(&mut out, &recipe.values, &tensors)?;
    let mut random = fastrand::Rng::with_seed(seed);
    for (tensor, fill) in &recipe.tensors {
        let count: u64 = tensor.shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| match fill {
                Fill::Random => uniform(&mut random) * spread(tensor.shape[0]),
                Fill::Constant(value) => *value,
            })
            .collect();
        let mut bytes = Vec::new();
        tensor.element.encode(&values, &mut bytes);
        out.write_all(&bytes)?;
        write::pad(&mut out, bytes.len() as u64)?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}
