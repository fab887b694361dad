//! Commands to the engine, events from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    AdapterFile, AnswerPart, DraftFile, EmbedInput, Failure, FinishReason, GenerateRequest, Limits,
    ModelKind, RequestId, Sampling, TokenLogprob, Usage,
};

/// Incremented whenever the meaning of a frame changes; both ends must agree.
pub const PROTOCOL_VERSION: u16 = 6;

/// Element type of the key or value cache.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// 16-bit floats: fastest, largest.
    #[default]
    F16,
    /// 8-bit blocks: about half the size.
    Q8_0,
}

impl KvType {
    /// The name used in the configuration and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// Everything the engine needs to load a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The GGUF file.
    pub path: PathBuf,
    /// The file that turns pictures and sounds into embeddings for this model, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<PathBuf>,
    /// A smaller model that proposes tokens, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftFile>,
    /// Context in tokens.
    pub context_size: u32,
    /// Tokens of finished prompts that the KV cache holds in addition.
    pub kept_tokens: u32,
    /// Type of the key cache.
    pub kv_type: KvType,
    /// Size of the compute pool: the most threads that can ever run.
    pub threads_max: u32,
    /// Requests that are processed at once.
    pub slots: u32,
    /// Most tokens that are drafted and verified in one batch (prompt lookup).
    #[serde(default)]
    pub lookup_tokens: u32,
    /// Bytes that the engine may allocate from here on, without the mapped model file;
    /// `None`: no limit.
    pub memory_max: Option<u64>,
    /// The prefix cache on disk; `None`: disabled.
    pub cache: Option<DiskCache>,
    /// The adapters that requests may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<AdapterFile>,
    /// Limits that apply from the first tick on.
    pub limits: Limits,
    /// Sampling defaults for options that neither the request nor the model file sets.
    pub sampling: Sampling,
}

/// The prefix cache on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCache {
    /// The folder; it exists and belongs to the service.
    pub folder: PathBuf,
    /// The most bytes that all files together may take.
    pub max_bytes: u64,
    /// The most bytes written per day, since SD cards wear out.
    pub daily_write_bytes: u64,
    /// Prefixes shorter than this are not written.
    pub min_tokens: u32,
}

/// What a model's chat template can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent facts")]
pub struct ChatAbilities {
    /// It describes tools and has a format for calls; otherwise Hearthd adds both as text.
    pub native_tools: bool,
    /// One answer may contain several calls.
    pub parallel_tool_calls: bool,
    /// It supports the system role; otherwise a system prompt is put before the first
    /// question.
    pub system_role: bool,
    /// The model may think before it answers.
    pub thinking: bool,
}

/// Properties of a loaded model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// llama.cpp's short description, e.g. `llama 1.5B Q4_0`.
    pub description: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of weights.
    pub size_bytes: u64,
    /// The context that was created, in tokens.
    pub context_size: u32,
    /// The context that the model was trained for.
    pub context_train: u32,
    /// Requests that are processed at once.
    pub slots: u32,
    /// Tokens that the KV cache holds, for all requests and cached prefixes together.
    pub kv_tokens: u32,
    /// Bytes per token in the KV cache.
    pub kv_token_bytes: u64,
    /// Vocabulary size in tokens.
    pub vocab_size: u32,
    /// The CPU backend in use and its features, e.g. `haswell (AVX2, FMA)`.
    pub cpu: String,
    /// Whether the file contains a chat template (otherwise `ChatML` is assumed).
    pub has_chat_template: bool,
    /// The kind of the model.
    #[serde(default)]
    pub kind: ModelKind,
    /// What the template can do.
    #[serde(default)]
    pub chat: ChatAbilities,
    /// Whether it takes pictures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vision: bool,
    /// Whether it takes sounds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audio: bool,
    /// Why its draft model cannot be used; empty if it can, or if none was requested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub draft_problem: String,
    /// The text of the token that begins a text; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bos_token: String,
    /// The text of the token that ends one; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub eos_token: String,
    /// Sampling where a request sets none: the model file's recommendation over the configured
    /// defaults.
    #[serde(default)]
    pub sampling: Box<Sampling>,
    /// Time from `Load` to ready.
    pub load_ms: u64,
}

/// Daemon to engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Load a model; sent once per process.
    Load(LoadRequest),
    /// Process a request; at most as many at once as there are slots.
    Generate(GenerateRequest),
    /// Stop processing a request; answered by `Failed` with `Cancelled`.
    Cancel {
        /// Which request.
        id: RequestId,
    },
    /// Convert a text to tokens.
    Tokenize {
        /// Echoed in `Tokenized` or `Failed`.
        id: RequestId,
        /// The text, without template.
        text: String,
        /// Whether the beginning-of-sequence token is prepended, if the model has one.
        bos: bool,
        /// Whether names of control tokens in it are ordinary text.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        plain: bool,
        /// Whether the bytes of each token are wanted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pieces: bool,
    },
    /// Convert tokens to a text.
    Detokenize {
        /// Echoed in `Detokenized` or `Failed`.
        id: RequestId,
        /// The tokens.
        tokens: Vec<i32>,
    },
    /// Render and tokenize the prompt of a request, as `Generate` would; nothing is computed.
    Render(Box<GenerateRequest>),
    /// Compute the embedding of a text; running answers continue between two of these.
    Embed {
        /// Echoed in `Embedded` or `Failed`.
        id: RequestId,
        /// The text, without template. Where it begins with tokens, none is added to them.
        input: EmbedInput,
        /// Whether the end of a text that is too long is left out, instead of refusing it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        truncate: bool,
    },
    /// Compute how well a document matches a query; running answers continue between two of
    /// these.
    Rerank {
        /// Echoed in `Ranked` or `Failed`.
        id: RequestId,
        /// The query, without template.
        query: String,
        /// The document, without template.
        document: String,
    },
    /// New limits, from the next tick on.
    SetLimits(Limits),
    /// Free the memory of the prefix cache.
    Shrink,
    /// Free the memory of the draft model.
    ReleaseDraft,
    /// Asks for a `Pong`.
    Ping {
        /// Echoed.
        seq: u64,
    },
    /// Remove cached prefixes from memory; the daemon has deleted the files.
    ForgetPrompts {
        /// Those of this user; `None`: all.
        uid: Option<u32>,
    },
    /// Abandon running requests, save cached prefixes that are worth it, and exit cleanly.
    Shutdown,
}

/// Engine to daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First frame after start.
    Hello {
        /// [`PROTOCOL_VERSION`] of the engine.
        protocol: u16,
        /// Package version of the engine.
        version: String,
    },
    /// Progress of loading.
    Loading {
        /// 0 to 1.
        progress: f32,
    },
    /// The model is ready.
    Loaded(Box<ModelInfo>),
    /// The model cannot be loaded; the process then exits.
    LoadFailed(Failure),
    /// The prompt was accepted.
    Started {
        /// Which request.
        id: RequestId,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// How many of these were found in the prefix cache.
        cached_tokens: u32,
        /// Whether these came from disk, not from memory.
        #[serde(default)]
        from_disk: bool,
    },
    /// A chunk of the prompt was decoded.
    Prefill {
        /// Which request.
        id: RequestId,
        /// Prompt tokens done so far.
        done: u32,
        /// If requested: the tokens of the chunk with their probabilities; 1 for the first of
        /// the prompt, which nothing precedes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// More of the answer.
    Token {
        /// Which request.
        id: RequestId,
        /// The parts that are final by now; empty if a token only completes part of a character,
        /// a stop string or a call.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<AnswerPart>,
        /// Tokens generated so far.
        generated: u32,
        /// The tokens themselves, for `resume`. Usually one; more where a constraint
        /// forced several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tokens: Vec<i32>,
        /// If requested, one for each of `tokens`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Which request.
        id: RequestId,
        /// Why.
        reason: FinishReason,
        /// The stop string of the request that ended it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_string: Option<String>,
        /// Token counts and times.
        usage: Usage,
    },
    /// The request ended without a complete answer.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        failure: Failure,
    },
    /// Answer to `Tokenize`.
    Tokenized {
        /// Echoed.
        id: RequestId,
        /// The tokens.
        tokens: Vec<i32>,
        /// If requested, the bytes of each; those of a control token are its name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pieces: Vec<Vec<u8>>,
    },
    /// Answer to `Detokenize`.
    Detokenized {
        /// Echoed.
        id: RequestId,
        /// The text; invalid UTF-8 is replaced.
        text: String,
    },
    /// Answer to `Render`.
    Rendered {
        /// Echoed.
        id: RequestId,
        /// The text that the template makes of a chat; another prompt as it is.
        text: String,
        /// Its tokens, also where they do not fit into the context; those of pictures and sounds
        /// are negative.
        tokens: Vec<i32>,
    },
    /// Answer to `Embed`.
    Embedded {
        /// Echoed.
        id: RequestId,
        /// A vector of length one.
        embedding: Vec<f32>,
        /// Tokens of the text.
        tokens: u32,
    },
    /// Answer to `Rerank`.
    Ranked {
        /// Echoed.
        id: RequestId,
        /// The model's score, as llama.cpp returns it: larger means a better match; its range
        /// depends on the model.
        score: f32,
        /// Tokens of the query and the document.
        tokens: u32,
    },
    /// Answer to `Ping`.
    Pong {
        /// Echoed.
        seq: u64,
        /// Increases with every unit of work; if it does not while `busy`, the engine hangs.
        ticks: u64,
        /// Whether the engine computes; sleeping for the duty or being paused does not count.
        busy: bool,
    },
}
