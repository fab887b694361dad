//! The kind of a model, as far as its header shows it.

use hearth_proto::{KindFacts, ModelKind};

use super::Header;

/// Tokens that begin a turn of a conversation, in the formats that llama.cpp supports
/// (`common/chat.cpp`, `src/llama-chat.cpp`).
const MARKS: [&str; 20] = [
    "<|im_start|>",
    "<start_of_turn>",
    "<|turn>",
    "<|start_header_id|>",
    "<|header_start|>",
    "[INST]",
    "<|user|>",
    "<|start|>",
    "<|start_of_role|>",
    "<|START_OF_TURN_TOKEN|>",
    "<\u{ff5c}User\u{ff5c}>",
    "<|im_user|>",
    "<|User|>",
    "<|role_start|>",
    "<|startofturn|>",
    "<role>",
    "<|message_start|>",
    "<|begin|>",
    "<extra_id_1>",
    "<\u{ff5c}hy_User\u{ff5c}>",
];

/// Architectures whose tokens attend to all others: llama.cpp gives them no memory
/// (`llama_model::create_memory`) or no causal attention.
const SEE_ALL: [&str; 9] = [
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
];
/// `llm_arch_is_diffusion`.
const DIFFUSION: [&str; 4] = ["dream", "llada", "llada-moe", "rnd1"];
/// Not text models: projectors, draft heads, audio decoders.
const PARTS: [&str; 4] = ["clip", "eagle3", "dflash", "wavtokenizer-dec"];
/// Values of `general.type` for files that are not models (gguf-py's `GGUFType`).
const PART_TYPES: [&str; 3] = ["imatrix", "mmproj", "vocab"];

/// Whether a token begins a turn.
pub(super) fn is_mark(token: &str) -> bool {
    MARKS.contains(&token)
}

impl Header {
    /// The kind of the model; `None` if the header has no architecture. The kind that the
    /// engine finds after loading takes precedence.
    pub fn model_kind(&self) -> Option<ModelKind> {
        if self.is_adapter() {
            return Some(ModelKind::Adapter);
        }
        let facts = self.kind_facts();
        (!self.architecture.is_empty()).then(|| ModelKind::of(&facts))
    }

    fn kind_facts(&self) -> KindFacts {
        let architecture = self.architecture.as_str();
        KindFacts {
            is_part: PARTS.contains(&architecture) || PART_TYPES.contains(&self.kind.as_str()),
            is_diffusion: DIFFUSION.contains(&architecture),
            has_encoder: matches!(architecture, "t5" | "t5encoder"),
            has_decoder: architecture != "t5encoder",
            sees_all: self.is_not_causal || SEE_ALL.contains(&architecture),
            pooling: self.pooling,
            has_template: self.chat_template.is_some(),
            has_marks: self.has_chat_marks,
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::Pooling;

    use super::*;

    #[test]
    fn the_model_kind_follows_from_the_header() {
        let header = |architecture: &str| Header {
            architecture: architecture.into(),
            ..Header::default()
        };
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = header("qwen3");
            change(&mut header);
            header.model_kind().unwrap()
        };
        for (architecture, kind) in [
            ("llama", ModelKind::Base),
            ("bert", ModelKind::Embedding),
            ("gemma-embedding", ModelKind::Embedding),
            ("t5encoder", ModelKind::Embedding),
            ("t5", ModelKind::EncoderDecoder),
            ("llada", ModelKind::Diffusion),
            ("clip", ModelKind::Part),
        ] {
            let told = header(architecture).model_kind();
            assert_eq!(told, Some(kind), "{architecture}");
        }
        assert_eq!(header("").model_kind(), None);
        assert_eq!(with(&|h| h.has_chat_marks = true), ModelKind::Chat);
        let template = |h: &mut Header| h.chat_template = Some("{{ x }}".into());
        assert_eq!(with(&template), ModelKind::Chat);
        assert_eq!(with(&|h| h.pooling = Pooling::Last), ModelKind::Embedding);
        assert_eq!(with(&|h| h.pooling = Pooling::Rank), ModelKind::Reranker);
        assert_eq!(with(&|h| h.is_not_causal = true), ModelKind::Embedding);
        assert_eq!(with(&|h| h.kind = "adapter".into()), ModelKind::Adapter);
        assert_eq!(with(&|h| h.kind = "model".into()), ModelKind::Base);
    }
}
