//! Which models there are, and how they are loaded.

use std::collections::BTreeMap;

use hearth_proto::{KvType, Use};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which model is loaded, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The model for requests that name none, as listed by `hearthctl models`. Empty: the
    /// only imported model, else the smallest packaged one.
    pub default: String,
    /// The model for embeddings that name none. Empty: the only installed embedding model,
    /// else as for other requests.
    pub embedding: String,
    /// The model for reranking that names none. Empty: the only installed reranker.
    pub rerank: String,
    /// The model for chats with pictures that name none. Empty: the only installed model that
    /// takes pictures, else as for other requests.
    pub vision: String,
    /// The model for chats with sounds, and for transcriptions, that name none. Empty: the only
    /// installed model that takes sounds, else as for other requests.
    pub audio: String,
    /// Further names of models, as clients send them: {"gpt-4o-mini" = "qwen2.5-1.5b"}. A
    /// model that has such a name itself comes first.
    pub aliases: BTreeMap<String, String>,
    /// Draft models: {"qwen2.5-3b" = "qwen2.5-0.5b"}. The second is loaded with the first and
    /// proposes tokens, which the first verifies: answers are the same, and faster where most
    /// proposals are right. Both need the same vocabulary. The name "default" stands for the
    /// default model.
    pub draft: BTreeMap<String, String>,
    /// Names of models that never leave the memory to make room for others, nor when they
    /// are idle. They are loaded with the first request, or by `preload`.
    pub pinned: Vec<String>,
    /// Load the default model when the service starts instead of on the first request.
    pub preload: bool,
    /// Context size in tokens. 0: the context the model was trained with, at most
    /// `context_max`. If memory is short, it is reduced, but not below 2048.
    pub context: u32,
    /// Upper bound for `context = 0`. The memory of the KV cache is proportional to the
    /// context size.
    pub context_max: u32,
    /// Element type of the keys in the KV cache: "f16" or "`q8_0`" (about half the size).
    pub kv_type: KvType,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            default: String::new(),
            embedding: String::new(),
            rerank: String::new(),
            vision: String::new(),
            audio: String::new(),
            aliases: BTreeMap::new(),
            draft: BTreeMap::new(),
            pinned: Vec::new(),
            preload: false,
            context: 0,
            context_max: 4096,
            kv_type: KvType::F16,
        }
    }
}

impl ModelConfig {
    /// The model for requests of this use that name none; empty where none is configured.
    pub fn default_for(&self, purpose: Use) -> &str {
        match purpose {
            Use::Chat | Use::Completion | Use::Infill => &self.default,
            Use::Embedding => &self.embedding,
            Use::Rerank => &self.rerank,
            Use::Vision => &self.vision,
            Use::Audio => &self.audio,
        }
    }
}
