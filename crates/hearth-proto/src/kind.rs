//! Kinds of models, and the uses that each supports.

use serde::{Deserialize, Serialize};

use super::{Failure, FailureKind};

/// The kind of a model, which determines the requests that it supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// It holds conversations.
    #[default]
    Chat,
    /// It continues a text; it defines no format for conversations.
    Base,
    /// It computes embeddings of texts.
    Embedding,
    /// It scores how well texts match a query.
    Reranker,
    /// It turns one text into another (T5).
    EncoderDecoder,
    /// It fills in masked tokens, not in sequence.
    Diffusion,
    /// It changes another model's answers (LoRA); a request names it.
    Adapter,
    /// It belongs to another model: a projector for images, a draft head.
    Part,
}

/// What a request uses a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The next turn of a conversation.
    Chat,
    /// The continuation of a text.
    Completion,
    /// The embedding of a text.
    Embedding,
    /// The text between two others.
    Infill,
    /// How well texts match a query.
    Rerank,
    /// The next turn of a conversation in which there are pictures.
    Vision,
    /// The next turn of a conversation in which there are sounds, and no pictures.
    Audio,
}

/// How a model pools its tokens' vectors (`enum llama_pooling_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// No pooling, or none specified.
    #[default]
    None,
    /// The mean of all vectors.
    Mean,
    /// The first token's vector.
    First,
    /// The last token's vector.
    Last,
    /// A score.
    Rank,
}

impl Pooling {
    /// The pooling with llama.cpp's number.
    pub fn of(number: i32) -> Self {
        match number {
            1 => Self::Mean,
            2 => Self::First,
            3 => Self::Last,
            4 => Self::Rank,
            _ => Self::None,
        }
    }
}

/// The facts that determine a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct KindFacts {
    /// It belongs to another model.
    pub is_part: bool,
    /// It fills in masked tokens.
    pub is_diffusion: bool,
    /// It has an encoder.
    pub has_encoder: bool,
    /// It has a decoder.
    pub has_decoder: bool,
    /// Tokens also attend to later ones, or the model has no memory of a text.
    pub sees_all: bool,
    /// Its pooling.
    pub pooling: Pooling,
    /// The file has a chat template.
    pub has_template: bool,
    /// The vocabulary has tokens that begin a turn of a chat.
    pub has_marks: bool,
}

impl ModelKind {
    /// The kind that follows from the facts. A model whose file has no chat template counts
    /// as a chat model if its vocabulary has turn tokens: it is then assumed to be trained
    /// with `ChatML`.
    pub fn of(facts: &KindFacts) -> Self {
        match facts {
            KindFacts { is_part: true, .. } => Self::Part,
            KindFacts {
                is_diffusion: true, ..
            } => Self::Diffusion,
            KindFacts {
                has_encoder: true,
                has_decoder: true,
                ..
            } => Self::EncoderDecoder,
            KindFacts {
                pooling: Pooling::Rank,
                ..
            } => Self::Reranker,
            facts if facts.has_encoder || facts.sees_all || facts.pooling != Pooling::None => {
                Self::Embedding
            }
            facts if facts.has_template || facts.has_marks => Self::Chat,
            _ => Self::Base,
        }
    }

    /// Its name on the bus, in HTTP and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Base => "base",
            Self::Embedding => "embedding",
            Self::Reranker => "reranker",
            Self::EncoderDecoder => "encoder-decoder",
            Self::Diffusion => "diffusion",
            Self::Adapter => "adapter",
            Self::Part => "part",
        }
    }

    /// Whether it supports this use. Text models can also compute embeddings. Whether a chat
    /// model takes pictures or sounds depends on its projector, not on its kind.
    pub fn can(self, wanted: Use) -> bool {
        match self {
            Self::Chat => wanted != Use::Rerank,
            Self::Base => !matches!(wanted, Use::Chat | Use::Rerank | Use::Vision | Use::Audio),
            Self::Embedding => wanted == Use::Embedding,
            Self::Reranker => wanted == Use::Rerank,
            Self::EncoderDecoder | Self::Diffusion | Self::Adapter | Self::Part => false,
        }
    }

    /// Refuses an unsupported use; the message says what is supported.
    ///
    /// # Errors
    /// `NotSupported`.
    pub fn check(self, wanted: Use) -> Result<(), Failure> {
        if self.can(wanted) {
            return Ok(());
        }
        let what = match self {
            Self::Chat => "a chat model",
            Self::Base => {
                "a base model, without a chat template and without tokens for turns: it \
                 continues texts (POST /v1/completions, /api/generate) and makes vectors \
                 (POST /v1/embeddings)"
            }
            Self::Embedding => {
                "an embedding model: it makes vectors of texts (POST /v1/embeddings, Embed, \
                 `hearthctl embed`) and writes none"
            }
            Self::Reranker => {
                "a reranker: it scores how well texts match a query (POST /v1/rerank, Rerank) \
                 and writes none"
            }
            Self::EncoderDecoder => "an encoder-decoder model, which Hearthd does not run",
            Self::Diffusion => "a diffusion model, which Hearthd does not run",
            Self::Adapter => {
                "an adapter of another model: name that model, and the adapter in `lora`"
            }
            Self::Part => "a part of another model, which does nothing by itself",
        };
        let other = match wanted {
            Use::Chat => "name a chat model for conversations",
            Use::Completion => "name a chat or base model to continue a text",
            Use::Embedding => "name an embedding or chat model for vectors",
            Use::Infill => {
                "name a model that is trained to fill in text between two others, such as \
                 Qwen2.5-Coder"
            }
            Use::Rerank => "name a reranker, such as bge-reranker, to score texts",
            Use::Vision => "name a chat model with a projector for pictures",
            Use::Audio => "name a chat model with a projector for sounds",
        };
        let message = format!("the model is {what}; {other}: `hearthctl models` lists the kinds");
        Err(Failure::new(FailureKind::NotSupported, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table; longer than a screen: one row for each kind of file.
    #[test]
    fn kinds_follow_from_the_facts() {
        let decoder = KindFacts {
            has_decoder: true,
            ..KindFacts::default()
        };
        let pooled = |pooling| KindFacts {
            pooling,
            has_template: true,
            ..decoder
        };
        for (facts, kind) in [
            (decoder, ModelKind::Base),
            (
                KindFacts {
                    has_template: true,
                    ..decoder
                },
                ModelKind::Chat,
            ),
            (
                KindFacts {
                    has_marks: true,
                    ..decoder
                },
                ModelKind::Chat,
            ),
            // Qwen3-Embedding: its file has the template of its base model.
            (pooled(Pooling::Last), ModelKind::Embedding),
            (pooled(Pooling::Rank), ModelKind::Reranker),
            (
                KindFacts {
                    sees_all: true,
                    ..decoder
                },
                ModelKind::Embedding,
            ),
            (
                KindFacts {
                    sees_all: true,
                    is_diffusion: true,
                    has_template: true,
                    ..decoder
                },
                ModelKind::Diffusion,
            ),
            (
                KindFacts {
                    has_encoder: true,
                    ..decoder
                },
                ModelKind::EncoderDecoder,
            ),
            (
                KindFacts {
                    has_encoder: true,
                    ..KindFacts::default()
                },
                ModelKind::Embedding,
            ),
            (
                KindFacts {
                    is_part: true,
                    ..decoder
                },
                ModelKind::Part,
            ),
        ] {
            assert_eq!(ModelKind::of(&facts), kind, "{facts:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_can_be_done() {
        let kinds = [
            ModelKind::Chat,
            ModelKind::Base,
            ModelKind::Embedding,
            ModelKind::Reranker,
            ModelKind::EncoderDecoder,
            ModelKind::Diffusion,
            ModelKind::Adapter,
            ModelKind::Part,
        ];
        for kind in kinds {
            for wanted in [
                Use::Chat,
                Use::Completion,
                Use::Embedding,
                Use::Infill,
                Use::Rerank,
                Use::Vision,
                Use::Audio,
            ] {
                match kind.check(wanted) {
                    Ok(()) => assert!(kind.can(wanted)),
                    Err(failure) => {
                        assert_eq!(failure.kind, FailureKind::NotSupported);
                        assert!(failure.message.contains("hearthctl models"), "{failure}");
                    }
                }
            }
        }
        let refused = ModelKind::Embedding.check(Use::Chat).unwrap_err();
        assert!(refused.message.contains("/v1/embeddings"), "{refused}");
        let refused = ModelKind::Base.check(Use::Chat).unwrap_err();
        assert!(refused.message.contains("/v1/completions"), "{refused}");
        let refused = ModelKind::Reranker.check(Use::Embedding).unwrap_err();
        assert!(refused.message.contains("/v1/rerank"), "{refused}");
        let refused = ModelKind::Chat.check(Use::Rerank).unwrap_err();
        assert!(refused.message.contains("name a reranker"), "{refused}");
    }

    #[test]
    fn only_rerankers_score() {
        for (kind, scores, fills_in) in [
            (ModelKind::Chat, false, true),
            (ModelKind::Base, false, true),
            (ModelKind::Embedding, false, false),
            (ModelKind::Reranker, true, false),
        ] {
            assert_eq!(
                (kind.can(Use::Rerank), kind.can(Use::Infill)),
                (scores, fills_in)
            );
        }
    }
}
