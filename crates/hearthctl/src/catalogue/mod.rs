//! Models that can be downloaded (`config/models.toml`), and the memory that each needs,
//! known before the download. No I/O.

mod estimate;
#[cfg(test)]
mod tests;

use serde::Deserialize;

const TEXT: &str = include_str!("../../../../config/models.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    model: Vec<Entry>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of the model.
    pub name: String,
    /// Argument of `hearthctl pull`.
    pub source: String,
    /// The model's licence.
    pub licence: String,
    /// What it is suited for.
    pub good_for: String,
    /// The smallest board that it is meant for: memory in GiB.
    pub board_gib: u32,
    /// What it returns.
    #[serde(default)]
    pub kind: Kind,
    /// Type of its weights.
    pub quantization: Quantization,
    /// `general.architecture`.
    pub architecture: String,
    /// Training context in tokens.
    pub context: u32,
    layers: u32,
    width: u32,
    feed_forward: u32,
    heads: u32,
    kv_heads: u32,
    head_width: u32,
    #[serde(default)]
    sliding_window: u32,
    /// Number of last layers that use the keys of other layers.
    #[serde(default)]
    shared_kv_layers: u32,
    /// Number of layers with keys and values; all if omitted.
    attention_layers: Option<u32>,
    #[serde(default)]
    ssm_conv_kernel: u32,
    #[serde(default)]
    ssm_inner_size: u32,
    #[serde(default)]
    ssm_state_size: u32,
    #[serde(default)]
    ssm_group_count: u32,
    #[serde(default)]
    short_conv: u32,
    /// Size of the file if the matrices are not those of a plain transformer.
    file_bytes: Option<u64>,
    vocabulary: u32,
    /// Whether the embeddings also serve as the output matrix.
    tied: bool,
    /// The projector, which is downloaded with a model that takes pictures.
    projector: Option<Projector>,
}

/// The projector of a model, as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Projector {
    /// Size of its file, which has no vocabulary: that of its weights.
    file_bytes: u64,
    /// Pixels on a side of what is encoded at once.
    image_size: u32,
    /// Pixels on a side of a patch.
    patch_size: u32,
    width: u32,
    feed_forward: u32,
}

/// What a model returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    #[default]
    Chat,
    /// The embedding vector of a text.
    Embedding,
    /// How relevant a text is to a question.
    Reranker,
}

/// The llama.cpp file types that occur in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(non_camel_case_types, reason = "llama.cpp's names")]
pub enum Quantization {
    /// All matrices in 8 bits.
    Q8_0,
    /// Four bits, and six where the loss is largest.
    Q4_K_M,
}

/// The models, smallest first.
///
/// # Errors
/// The parse error of the file, which the tests rule out.
pub fn catalogue() -> Result<Vec<Entry>, toml::de::Error> {
    toml::from_str::<Catalogue>(TEXT).map(|catalogue| catalogue.model)
}

impl Quantization {
    /// Name of the type in llama.cpp.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_K_M => "Q4_K_M",
        }
    }
}
