//! The messages between the daemon and the engine process, and units of measure.
//!
//! The daemon writes [`Command`]s, the engine writes [`Event`]s; each is sent as one frame
//! (see [`framing`]). Both ends come from the same package, so the protocol has one
//! version and no negotiation: on a mismatch the engine is stopped.

#![warn(missing_docs)]

mod answer;
pub mod bus;
mod draft;
mod engine_shape;
mod failure;
mod failure_names;
pub mod framing;
mod kind;
mod limits;
mod lora;
mod media;
mod message;
mod model_ref;
mod models;
mod offline;
mod options;
pub mod paths;
pub mod picture;
mod prefix;
mod prompt;
pub mod reading;
mod reasoning;
mod request;
mod sampling;
pub mod sound;
mod stream;
mod submission;
pub mod units;
mod usage;

pub use answer::{AnswerPart, Confidence, ToolCall};
pub use draft::DraftFile;
pub use engine_shape::EngineShape;
pub use failure::{Failure, FailureKind, PromptSize};
pub use failure_names::{FailureNames, OpenAiType};
pub use kind::{KindFacts, ModelKind, Pooling, Use};
pub use limits::Limits;
pub use lora::{ADAPTERS_MAX, AdapterFile, AdapterRef, CacheScope, Lora};
pub use media::{
    Blob, MEDIA_BYTES_MAX, MEDIA_MAX, MEDIUM_BYTES_MAX, Media, MediaKind, check_media,
    decode_base64,
};
pub use message::{
    ChatAbilities, Command, DiskCache, Event, KvType, LoadRequest, ModelInfo, PROTOCOL_VERSION,
};
pub use model_ref::ModelRef;
pub use models::{ModelEntry, ModelFeatures, check_name};
pub use offline::{
    Accuracy, BenchJob, BenchResult, Divergence, ImatrixJob, ImatrixResult, JudgeJob, JudgeResult,
    OfflineEvent, OfflineJob, QuantizeJob, QuantizeResult, Question, Reference, ShapeJob,
    ShapeResult, ShapeRow, TextScore,
};
pub use options::RequestOptions;
pub use prefix::common_prefix;
pub use prompt::{EmbedInput, Infill, Prompt, PromptPart, Snippet};
pub use reasoning::ReasoningFormat;
pub use request::{
    COMPILE_STACK, CallMode, Constraint, FinishReason, GenerateRequest, Message, Overflow,
    Priority, RequestId, Reuse, Thinking, TokenLogprob, ToolChoice,
};
pub use sampling::{Biased, LAST_N_MAX, SAMPLERS, SamplerName, Sampling};
pub use sound::{SOUND_SECONDS_MAX, SoundFormat};
pub use stream::{Answer, StreamEvent};
pub use submission::{KeepAlive, Submission};
pub use usage::Usage;
