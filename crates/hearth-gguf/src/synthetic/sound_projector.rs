//! Projectors for sounds with random weights, for tests.

use super::projector::{blocks, matrix, vector};
use crate::write::{Tensor, Value};

/// Vectors that the encoder makes of a stretch of 30 seconds: two convolutions turn 3000
/// frames into so many.
const POSITIONS: u64 = 1500;
/// Frames that a convolution sees at once.
const KERNEL: u64 = 3;

/// The dimensions of a projector as Ultravox has it: Whisper's encoder, then a perceptron of
/// several of its vectors at once. It needs no tokens of its own in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundProjector {
    /// Frequency bands of a frame.
    pub bands: u32,
    /// Width of the encoder's vectors.
    pub width: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Vectors of the encoder that become one token.
    pub stacked: u32,
    /// Width between the two matrices after the encoder; the gate takes half of it.
    pub hidden: u32,
    /// Width of the text model's embeddings.
    pub text_width: u32,
}

/// The names of shapes: the dimensions in the `config.json` of Ultravox 0.5 for Llama 3.2 1B,
/// whose encoder is that of Whisper large v3 turbo, and a small one.
pub const SOUND_PROJECTORS: [(&str, SoundProjector); 2] = [
    (
        "ultravox-1b",
        SoundProjector::new([128, 1280, 5120, 32, 20, 8, 4096, 2048]),
    ),
    (
        "tiny-ultravox",
        SoundProjector::new([32, 64, 128, 2, 4, 32, 128, 64]),
    ),
];

impl SoundProjector {
    const fn new(n: [u32; 8]) -> Self {
        let [
            bands,
            width,
            feed_forward,
            layers,
            heads,
            stacked,
            hidden,
            text_width,
        ] = n;
        Self {
            bands,
            width,
            feed_forward,
            layers,
            heads,
            stacked,
            hidden,
            text_width,
        }
    }

    /// The shape of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = SOUND_PROJECTORS.iter().find(|(known, _)| *known == name);
        found.map(|(_, projector)| *projector)
    }

    /// The same projector, for a text model of this width.
    #[must_use]
    pub fn for_width(self, text_width: u32) -> Self {
        Self { text_width, ..self }
    }

    // A table: a row for each tensor of the architecture.
    pub(super) fn tensors(self) -> Vec<Tensor> {
        let n = |value: u32| u64::from(value);
        let width = n(self.width);
        let kernel = |name: &str, channels| Tensor {
            shape: vec![KERNEL, channels, width],
            ..matrix(name, KERNEL, channels)
        };
        let column = |name: &str| Tensor {
            shape: vec![1, width],
            ..vector(name.into(), width)
        };
        let mut all = vec![
            kernel("a.conv1d.1", n(self.bands)),
            column("a.conv1d.1.bias"),
            kernel("a.conv1d.2", width),
            column("a.conv1d.2.bias"),
            Tensor {
                shape: vec![width, POSITIONS],
                ..vector("a.position_embd.weight".into(), width)
            },
            vector("a.post_ln.weight".into(), width),
            vector("a.post_ln.bias".into(), width),
        ];
        // Whisper has no such bias, and llama.cpp checks it.
        let has_it = |tensor: &Tensor| !tensor.name.ends_with("attn_k.bias");
        let blocks = blocks("a", self.layers, width, n(self.feed_forward));
        all.extend(blocks.into_iter().filter(has_it));
        let (stacked, gated) = (width * n(self.stacked), n(self.hidden) / 2);
        let (hidden, text) = (n(self.hidden), n(self.text_width));
        all.push(matrix("mm.a.mlp.1", stacked, hidden));
        all.push(matrix("mm.a.mlp.2", gated, text));
        all.push(vector("mm.a.norm_pre.weight".into(), stacked));
        all.push(vector("mm.a.norm_mid.weight".into(), gated));
        all
    }

    pub(super) fn header(self) -> Vec<(String, Value)> {
        let text = |s: &str| Value::Text(s.to_owned());
        let audio = [
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            ("projection_dim", self.text_width),
            ("num_mel_bins", self.bands),
            ("projector.stack_factor", self.stacked),
        ];
        let audio = audio.map(|(key, n)| (format!("clip.audio.{key}"), Value::U32(n)));
        let values = [
            ("general.architecture", text("clip")),
            ("general.type", text("mmproj")),
            ("general.name", text("random weights")),
            ("general.file_type", Value::U32(1)),
            ("clip.has_audio_encoder", Value::Bool(true)),
            ("clip.projector_type", text("ultravox")),
            ("clip.audio.attention.layer_norm_epsilon", Value::F32(1e-5)),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value));
        values.into_iter().chain(audio).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use crate::synthetic::{ProjectorShape, make_projector};

    #[test]
    fn a_projector_of_sounds_is_known_by_its_header() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shape: ProjectorShape = "tiny-ultravox:1".parse().unwrap();
        make_projector(file.path(), shape.for_width(96), 1).unwrap();
        let header = crate::read_header(&mut File::open(file.path()).unwrap()).unwrap();
        assert_eq!(header.kind, "mmproj");
        let found = header.projector.unwrap();
        assert!(found.audio && !found.vision);
        assert_eq!((found.text_width, found.width), (96, 64));
        let memory = crate::projector_memory(&header);
        assert!(memory.0 > header.weight_bytes() + 1500 * 64 * 4, "{memory}");
    }
}
