//! Commands to the engine, events from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    AnswerPart, Failure, FinishReason, GenerateRequest, Limits, ModelKind, RequestId, Sampling,
    TokenLogprob, Usage,
};

/// Raised whenever a frame's meaning changes; both ends must agree.
pub const PROTOCOL_VERSION: u16 = 4;

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
    /// Context in tokens.
    pub context_size: u32,
    /// Tokens of finished prompts that the KV cache holds besides.
    pub kept_tokens: u32,
    /// Type of the key cache.
    pub kv_type: KvType,
    /// Size of the compute pool: the most threads that can ever run.
    pub threads_max: u32,
    /// Requests that are worked on at once.
    pub slots: u32,
    /// Most tokens that are guessed and checked in one batch (prompt lookup).
    #[serde(default)]
    pub lookup_tokens: u32,
    /// Bytes of its own that the engine may have from here on, the mapped model file not
    /// counted; `None`: as many as the kernel gives.
    pub memory_max: Option<u64>,
    /// Where prompts are kept on disk; `None`: nowhere.
    pub cache: Option<DiskCache>,
    /// What holds from the first tick on.
    pub limits: Limits,
    /// Sampling defaults for what neither request nor model file sets.
    pub sampling: Sampling,
}

/// The prompt cache on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCache {
    /// The folder; it exists and belongs to the service.
    pub folder: PathBuf,
    /// The most bytes that all files together may take.
    pub max_bytes: u64,
    /// The most bytes written in a day: SD cards wear.
    pub daily_write_bytes: u64,
    /// Prefixes shorter than this are not worth a file.
    pub min_tokens: u32,
}

/// What a model's chat template can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent facts")]
pub struct ChatAbilities {
    /// It describes tools and has a form of calls; else both are text of ours.
    pub native_tools: bool,
    /// One answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// It knows the system role; else a system prompt stands before the first question.
    pub system_role: bool,
    /// The model may think before it answers.
    pub thinking: bool,
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Requests that are worked on at once.
    pub slots: u32,
    /// Tokens that the KV cache holds, for all requests and kept prompts together.
    pub kv_tokens: u32,
    /// Bytes of one token in the KV cache.
    pub kv_token_bytes: u64,
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
    /// The CPU backend in use and its features, e.g. `haswell (AVX2, FMA)`.
    pub cpu: String,
    /// Whether the file carries a chat template (else `ChatML` is assumed).
    pub has_chat_template: bool,
    /// What it is for.
    #[serde(default)]
    pub kind: ModelKind,
    /// What the template can do.
    #[serde(default)]
    pub chat: ChatAbilities,
    /// Time from `Load` to ready.
    pub load_ms: u64,
}

/// Daemon to engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Load the one model of this process's life.
    Load(LoadRequest),
    /// Work on a request; at most as many at once as there are slots.
    Generate(GenerateRequest),
    /// Stop working on a request; answered by `Failed` with `Cancelled`.
    Cancel {
        /// Which.
        id: RequestId,
    },
    /// Make tokens of a text.
    Tokenize {
        /// Echoed in `Tokenized` or `Failed`.
        id: RequestId,
        /// The text, without template.
        text: String,
        /// Whether the token that begins a text is put in front, where the model has one.
        bos: bool,
    },
    /// Make text of tokens.
    Detokenize {
        /// Echoed in `Detokenized` or `Failed`.
        id: RequestId,
        /// The tokens.
        tokens: Vec<i32>,
    },
    /// The vector of a text; between two of them answers go on.
    Embed {
        /// Echoed in `Embedded` or `Failed`.
        id: RequestId,
        /// The text, without template.
        text: String,
    },
    /// New limits, from the next tick on.
    SetLimits(Limits),
    /// Give back the memory of what is only kept for later.
    Shrink,
    /// Asks for a `Pong`.
    Ping {
        /// Echoed.
        seq: u64,
    },
    /// Forget kept prompts, in memory; the daemon has deleted the files.
    ForgetPrompts {
        /// Those of this user; `None`: all.
        uid: Option<u32>,
    },
    /// Finish nothing, keep what is worth keeping, end cleanly.
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
    /// Loading goes on.
    Loading {
        /// 0 to 1.
        progress: f32,
    },
    /// The model is ready.
    Loaded(ModelInfo),
    /// The model cannot be loaded; the process ends by itself.
    LoadFailed(Failure),
    /// The prompt was accepted.
    Started {
        /// Which request.
        id: RequestId,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Of these, found in the prompt cache.
        cached_tokens: u32,
        /// They came from the disk, not from memory.
        #[serde(default)]
        from_disk: bool,
    },
    /// A chunk of the prompt was decoded.
    Prefill {
        /// Which request.
        id: RequestId,
        /// Prompt tokens done so far.
        done: u32,
    },
    /// More of the answer.
    Token {
        /// Which request.
        id: RequestId,
        /// What is certain by now; empty where a token only completes part of a
        /// character, a stop string or a call.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<AnswerPart>,
        /// Tokens generated so far.
        generated: u32,
        /// The tokens themselves, for `resume`. Usually one; more where a constraint
        /// forced several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tokens: Vec<i32>,
        /// Where asked for, one for each of `tokens`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Which request.
        id: RequestId,
        /// Why.
        reason: FinishReason,
        /// What it cost.
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
    },
    /// Answer to `Detokenize`.
    Detokenized {
        /// Echoed.
        id: RequestId,
        /// The text; what is no UTF-8 is replaced.
        text: String,
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
    /// Answer to `Ping`.
    Pong {
        /// Echoed.
        seq: u64,
        /// Grows with every unit of work; standing still while `busy` means hung.
        ticks: u64,
        /// Whether the engine computes; a rest for the duty and a pause are not that.
        busy: bool,
    },
}
