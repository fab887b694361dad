//! The information that a header contains about its model.

use hearth_proto::Pooling;

use super::{ElementType, InfillMarks, Matrices, ProjectorHeader};

/// What the daemon needs to know about a model file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.file_type` in words, e.g. `Q8_0`.
    pub quantization: String,
    /// `<architecture>.context_length`.
    pub context_train: u32,
    /// `rope.scaling.original_context_length`; 0 if the key is absent.
    pub context_original: u32,
    /// Whether it has rotation factors for a long context besides those for a short one.
    pub has_long_factors: bool,
    /// Sum over all tensors of their elements.
    pub parameters: u64,
    /// `general.type`; empty if the key is absent, which means a model.
    pub kind: String,
    /// `general.name`.
    pub name: String,
    /// `general.size_label`, e.g. `0.5B`.
    pub size_label: String,
    /// `general.base_model.0.name`: what it was made from, in its author's words.
    pub base_model: String,
    /// `<architecture>.pooling_type`.
    pub pooling: Pooling,
    /// `<architecture>.attention.causal` is false.
    pub is_not_causal: bool,
    /// Whether the vocabulary has tokens that begin a turn of a chat.
    pub has_chat_marks: bool,
    /// The tokens for filling in text that the vocabulary has.
    pub infill: InfillMarks,
    /// `tokenizer.chat_template`; `None` where it has none, or a very long one.
    pub chat_template: Option<String>,
    /// What it says of a projector; `None` where it is none.
    pub projector: Option<ProjectorHeader>,
    /// The model's dimensions.
    pub shape: Shape,
    /// Its tensors, grouped by place and type.
    pub weights: Vec<Weights>,
    /// Its matrices by name and size, and what it says of itself if it is an adapter.
    pub matrices: Matrices,
}

/// The dimensions of a model: the keys `<architecture>.*`. A key that the file lacks is 0
/// or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// `block_count`.
    pub blocks: u32,
    /// `embedding_length`.
    pub width: u32,
    /// `feed_forward_length`, the largest of all blocks.
    pub feed_forward: u32,
    /// `attention.head_count`, the largest of all blocks.
    pub heads: u32,
    /// `attention.head_count_kv`: one number for all blocks, or one for each.
    pub kv_heads: Vec<u32>,
    /// `attention.key_length`, the width of a head's keys.
    pub key_length: u32,
    /// `attention.value_length`.
    pub value_length: u32,
    /// Entries of `tokenizer.ggml.tokens`, else `vocab_size`.
    pub vocabulary: u32,
    /// Entries of `tokenizer.ggml.merges`.
    pub merges: u32,
    /// `attention.sliding_window` in tokens; 0: every block has full attention.
    pub sliding_window: u32,
    /// `attention.shared_kv_layers`: the number of last blocks that use the keys of others.
    pub shared_kv_blocks: u32,
    /// `expert_used_count`; 0 where there are no experts.
    pub experts_used: u32,
    /// `expert_feed_forward_length`.
    pub expert_feed_forward: u32,
    /// Where a state takes the place of keys and values.
    pub recurrent: Recurrent,
}

/// The dimensions of a recurrent state (Mamba, RWKV, short convolutions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recurrent {
    /// `ssm.conv_kernel`.
    pub conv_kernel: u32,
    /// `ssm.inner_size`.
    pub inner_size: u32,
    /// `ssm.state_size`.
    pub state_size: u32,
    /// `ssm.group_count`.
    pub group_count: u32,
    /// `wkv.head_size`.
    pub wkv_head_size: u32,
    /// `shortconv.l_cache`.
    pub short_conv: u32,
    /// `full_attention_interval`: every n-th block has attention, the others a state.
    pub attention_interval: u32,
}

/// Where in a model a tensor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `token_embd` and the like: rows are looked up.
    Embedding,
    /// `output`: the output matrix.
    Output,
    /// `blk.*`.
    Block,
    /// Anything else.
    Other,
}

/// The tensors of one place and type together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Where they are used.
    pub place: Place,
    /// How they are stored.
    pub element: ElementType,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of those with two or three dimensions and a number of rows that is a
    /// multiple of 8.
    pub in_eights: u64,
}

impl Header {
    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        let sizes = self.weights.iter().map(|w| w.bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// Whether the embeddings also serve as the output matrix.
    pub fn is_tied(&self) -> bool {
        !self.weights.iter().any(|w| w.place == Place::Output)
    }
}
