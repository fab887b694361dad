//! Projectors for pictures with random weights, for tests.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::{ProjectorShape, SLICE, spread, uniform};
use crate::write::{self, ElementType, Tensor, Value};

/// How a projector turns the vectors of a picture's patches into embeddings
/// (`clip.projector_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorKind {
    /// Gemma 3: patches are averaged, and the tokens of a picture attend to each other.
    Gemma3,
    /// Idefics 3 and `SmolVLM`: a large picture is divided into tiles. The vocabulary needs
    /// tokens for them.
    Idefics3,
    /// Janus Pro: one token for each patch, without tokens around them.
    JanusPro,
}

/// The dimensions of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projector {
    /// How embeddings are made.
    pub kind: ProjectorKind,
    /// Pixels on a side of what is encoded at once.
    pub side: u32,
    /// Pixels on a side of a patch.
    pub patch: u32,
    /// Width of a patch's vector.
    pub width: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Patches on a side that become one token.
    pub merged: u32,
    /// Width of the text model's embeddings.
    pub text_width: u32,
}

/// The names of shapes: the dimensions in the `config.json` of these models, and small ones.
pub const PROJECTORS: [(&str, Projector); 6] = [
    (
        "smolvlm-256m",
        Projector::new(
            ProjectorKind::Idefics3,
            [512, 16, 768, 3072, 12, 12, 4, 576],
        ),
    ),
    (
        "gemma3-4b",
        Projector::new(
            ProjectorKind::Gemma3,
            [896, 14, 1152, 4304, 27, 16, 4, 2560],
        ),
    ),
    (
        "janus-pro-1b",
        Projector::new(
            ProjectorKind::JanusPro,
            [384, 16, 1024, 4096, 24, 16, 1, 2048],
        ),
    ),
    (
        "tiny-gemma3",
        Projector::new(ProjectorKind::Gemma3, [64, 8, 64, 128, 2, 4, 2, 64]),
    ),
    (
        "tiny-idefics3",
        Projector::new(ProjectorKind::Idefics3, [64, 8, 64, 128, 2, 4, 2, 64]),
    ),
    (
        "tiny-janus-pro",
        Projector::new(ProjectorKind::JanusPro, [64, 8, 64, 128, 2, 4, 1, 64]),
    ),
];

impl Projector {
    const fn new(kind: ProjectorKind, n: [u32; 8]) -> Self {
        let [
            side,
            patch,
            width,
            feed_forward,
            layers,
            heads,
            merged,
            text_width,
        ] = n;
        Self {
            kind,
            side,
            patch,
            width,
            feed_forward,
            layers,
            heads,
            merged,
            text_width,
        }
    }

    /// The shape of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = PROJECTORS.iter().find(|(known, _)| *known == name);
        found.map(|(_, projector)| *projector)
    }

    /// The same projector, for a text model of this width.
    #[must_use]
    pub fn for_width(self, text_width: u32) -> Self {
        Self { text_width, ..self }
    }

    /// Tokens of what is encoded at once.
    pub fn tokens(self) -> u32 {
        let side = self.side / self.patch / self.merged;
        side * side
    }

    // A table: a row for each tensor of the architectures.
    pub(super) fn tensors(self) -> Vec<Tensor> {
        let n = |value: u32| u64::from(value);
        let (width, text) = (n(self.width), n(self.text_width));
        let patches = n(self.side / self.patch).pow(2);
        let mut all = vec![
            Tensor {
                name: "v.patch_embd.weight".into(),
                shape: vec![n(self.patch), n(self.patch), 3, width],
                element: ElementType::F16,
            },
            vector("v.patch_embd.bias".into(), width),
            Tensor {
                name: "v.position_embd.weight".into(),
                shape: vec![width, patches],
                element: ElementType::F32,
            },
            vector("v.post_ln.weight".into(), width),
            vector("v.post_ln.bias".into(), width),
        ];
        all.extend(blocks("v", self.layers, width, n(self.feed_forward)));
        match self.kind {
            ProjectorKind::Gemma3 => {
                // Transposed before it is used.
                all.push(matrix("mm.input_projection", text, width));
                all.push(vector("mm.soft_emb_norm.weight".into(), width));
            }
            ProjectorKind::Idefics3 => {
                let merged = width * n(self.merged).pow(2);
                all.push(matrix("mm.model.fc", merged, text));
            }
            ProjectorKind::JanusPro => {
                all.push(matrix("mm.0", width, text));
                all.push(vector("mm.0.bias".into(), text));
                all.push(matrix("mm.1", text, text));
                all.push(vector("mm.1.bias".into(), text));
            }
        }
        all
    }

    pub(super) fn header(self) -> Vec<(String, Value)> {
        let text = |s: &str| Value::Text(s.to_owned());
        let kind = match self.kind {
            ProjectorKind::Gemma3 => "gemma3",
            ProjectorKind::Idefics3 => "idefics3",
            ProjectorKind::JanusPro => "janus_pro",
        };
        let vision = [
            ("image_size", self.side),
            ("patch_size", self.patch),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            ("projection_dim", self.text_width),
            ("projector.scale_factor", self.merged),
            ("preproc_image_size", self.side * 4),
        ];
        let vision = vision.map(|(key, n)| (format!("clip.vision.{key}"), Value::U32(n)));
        let half = || Value::Floats(vec![0.5; 3]);
        let values = [
            ("general.architecture", text("clip")),
            ("general.type", text("mmproj")),
            ("general.name", text("random weights")),
            ("general.file_type", Value::U32(1)),
            ("clip.has_vision_encoder", Value::Bool(true)),
            ("clip.projector_type", text(kind)),
            ("clip.use_gelu", Value::Bool(true)),
            ("clip.vision.attention.layer_norm_epsilon", Value::F32(1e-6)),
            ("clip.vision.image_mean", half()),
            ("clip.vision.image_std", half()),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value));
        values.into_iter().chain(vision).collect()
    }
}

/// Writes a projector; the same arguments produce the same bytes.
///
/// # Errors
/// Those of the file.
pub fn make_projector(
    path: &Path,
    projector: impl Into<ProjectorShape>,
    seed: u64,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (header, tensors) = projector.into().content();
    write::write_header(&mut out, &header, &tensors)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for tensor in &tensors {
        let total: u64 = tensor.shape.iter().product();
        // What a row is multiplied with; of a convolution all that it sees at once.
        let inputs = match tensor.shape.len() {
            n @ (3 | 4) => tensor.shape[..n - 1].iter().product(),
            _ => tensor.shape[0],
        };
        let is_bias = tensor.name.ends_with("bias");
        let is_vector = tensor.shape.len() == 1 || is_bias;
        let spread = if is_vector { 0.1 } else { spread(inputs) };
        let middle = if is_vector && !is_bias { 1.0 } else { 0.0 };
        let mut left = total;
        while left > 0 {
            let n = left.min(SLICE);
            left -= n;
            values.clear();
            values.extend((0..n).map(|_| middle + uniform(&mut random) * spread));
            bytes.clear();
            tensor.element.encode(&values, &mut bytes);
            out.write_all(&bytes)?;
        }
        write::pad(&mut out, tensor.element.bytes(total))?;
    }
    out.flush()
}

/// A matrix of weights.
pub(super) fn matrix(name: &str, columns: u64, rows: u64) -> Tensor {
    Tensor {
        name: format!("{name}.weight"),
        shape: vec![columns, rows],
        element: ElementType::F16,
    }
}

pub(super) fn vector(name: String, size: u64) -> Tensor {
    Tensor {
        name,
        shape: vec![size],
        element: ElementType::F32,
    }
}

/// The transformer blocks of an encoder whose tensors begin with `prefix`.
pub(super) fn blocks(prefix: &str, layers: u32, width: u64, feed_forward: u64) -> Vec<Tensor> {
    let mut all = Vec::new();
    for block in 0..layers {
        for (part, columns, rows) in [
            ("attn_q", width, width),
            ("attn_k", width, width),
            ("attn_v", width, width),
            ("attn_out", width, width),
            ("ffn_up", width, feed_forward),
            ("ffn_down", feed_forward, width),
        ] {
            let name = format!("{prefix}.blk.{block}.{part}");
            all.push(vector(format!("{name}.bias"), rows));
            all.push(matrix(&name, columns, rows));
        }
        for norm in ["ln1", "ln2"] {
            all.push(vector(format!("{prefix}.blk.{block}.{norm}.weight"), width));
            all.push(vector(format!("{prefix}.blk.{block}.{norm}.bias"), width));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_is_known_by_its_header() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let projector = Projector::named("tiny-gemma3").unwrap().for_width(96);
        make_projector(file.path(), projector, 1).unwrap();
        let header = crate::read_header(&mut File::open(file.path()).unwrap()).unwrap();
        assert_eq!(header.kind, "mmproj");
        let found = header.projector.unwrap();
        assert!(found.vision && !found.audio);
        assert_eq!((found.text_width, found.side, found.patch), (96, 64, 8));
        assert_eq!(projector.tokens(), 16);
    }
}
