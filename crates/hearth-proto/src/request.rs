//! A generation request and the parts of its result.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lora, Media, Prompt, ReasoningFormat, Sampling};

/// Identifies a request: its number, which is unique for as long as the daemon runs, and above
/// its 32 bits the run, which distinguishes it from requests before a restart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct RequestId(pub u64);

impl RequestId {
    /// Request number `number` of a run of the daemon.
    pub fn new(run: u32, number: u32) -> Self {
        Self(u64::from(run) << 32 | u64::from(number))
    }

    /// Its number: small, for people.
    pub fn number(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }

    /// The run of the daemon.
    pub fn run(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// Run and number in hexadecimal: an id that does not occur again after a restart.
impl fmt::LowerHex for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Scheduling class. `Interactive < Normal < Background` in the derived order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person is waiting: voice, chat.
    Interactive,
    /// A program is waiting.
    #[default]
    Normal,
    /// Nobody is waiting; runs only while nothing else does.
    Background,
}

impl Priority {
    /// The name used on the bus, in HTTP and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Background => "background",
        }
    }

    /// The class after this waiting time: one higher for each `step`.
    #[must_use]
    pub fn aged(self, waited: Duration, step: Duration) -> Self {
        let steps = waited.as_nanos() / step.as_nanos().max(1);
        match (self, steps) {
            (class, 0) => class,
            (Self::Background, 1) => Self::Normal,
            _ => Self::Interactive,
        }
    }
}

impl std::str::FromStr for Priority {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "interactive" => Ok(Self::Interactive),
            "normal" => Ok(Self::Normal),
            "background" => Ok(Self::Background),
            other => Err(format!(
                "unknown priority {other:?}: use interactive, normal or background"
            )),
        }
    }
}

/// One message of a chat, as the template in the model file expects it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`; templates may support more.
    pub role: String,
    /// The text; empty if there is none (an assistant message with only tool calls).
    #[serde(default)]
    pub content: String,
    /// Pictures and sounds in the text, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// The assistant's earlier reasoning; the template decides whether the model sees it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning_content: String,
    /// The assistant's tool calls, in OpenAI form but with `arguments` as an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of a tool or speaker, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user".into(),
            content: content.into(),
            ..Self::default()
        }
    }
}

/// The format that an answer must have. It is enforced token by token, so that the output
/// is always valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid against a JSON schema. Objects have only the properties that the
    /// schema names, unless it explicitly allows others.
    JsonSchema(serde_json::Value),
    /// As `LenientSchema`, but objects may have other properties unless the schema forbids
    /// them.
    OpenSchema(serde_json::Value),
    /// As `JsonSchema`, without the keywords that cannot be guaranteed or are unknown.
    LenientSchema(serde_json::Value),
    /// Text that a regular expression matches completely.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    /// A grammar in llama.cpp's GBNF.
    Gbnf(String),
}

/// Stack of the thread that compiles a [`Constraint`], in bytes; it is part of a model's
/// memory estimate. Compiling recurses: about 4 KiB per level, and the bounds on the input
/// allow a chain of references or rules of some ten thousand levels. Only pages that are
/// touched take memory.
pub const COMPILE_STACK: usize = 256 << 20;

/// Whether the model may, must or must not call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides; once it begins a call, the call is valid.
    #[default]
    Auto,
    /// No call.
    None,
    /// One of the tools.
    Required,
    /// This tool.
    Named(String),
}

/// Which part of an answer counts as a tool call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallMode {
    /// Text in the call format of the model's family.
    #[default]
    Strict,
    /// Also an answer that begins with JSON, bare or in a code fence: many small models
    /// deviate from their family's format.
    Lenient,
}

/// What to do with a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Refuse it with `ContextTooLong`.
    #[default]
    Error,
    /// Omit messages from the middle: system messages and the latest are kept.
    TruncateMiddle,
}

/// Which earlier results a request may reuse. Floating-point sums differ slightly if a
/// prompt is computed in other parts, or in a batch with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// Anything in the prefix cache.
    #[default]
    Allowed,
    /// Nothing (`cache_prompt: false`), and nothing of it is cached.
    Denied,
    /// Nothing, and nothing else is computed or in memory at the same time, so that the same
    /// request gets bit-identical results.
    Reproducible,
}

/// Whether the model reasons before it answers, if its chat template has a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// No reasoning.
    Off,
    /// Unlimited.
    On,
    /// Low effort.
    Low,
    /// Medium effort.
    Medium,
    /// High effort.
    High,
}

impl Thinking {
    /// The template's `reasoning_effort`; `None` if it is left to the model.
    pub fn effort(self) -> Option<&'static str> {
        match self {
            Self::Off | Self::On => None,
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        }
    }
}

/// A token with its probability, and the most likely ones in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its number in the vocabulary.
    #[serde(default)]
    pub id: i32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
    /// The most likely tokens in its place, most likely first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(Vec<u8>, f32)>,
    /// The numbers of the tokens in `top`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_ids: Vec<i32>,
}

/// One request as the engine receives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct GenerateRequest {
    /// Assigned by the daemon; all events contain it.
    pub id: RequestId,
    /// The input to continue.
    pub prompt: Prompt,
    /// How to choose tokens.
    #[serde(default)]
    pub sampling: Sampling,
    /// Stop after this many tokens; `None`: until the model ends or the context is full.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The most time for the answer from its first token on, in milliseconds. After it the answer
    /// ends at once if it has a line break, otherwise with its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predict_ms: Option<u32>,
    /// The most tokens of prompt and answer together, where that is less than the context;
    /// `None`: the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_max: Option<u32>,
    /// Stop strings: the answer ends before the first of them.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Its scheduling class; the engine computes higher ones first.
    #[serde(default)]
    pub priority: Priority,
    /// The user whose prefix-cache entries it may use and creates; `None`: shared entries.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The format that the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// The field of the client's request that sets it, for errors. The engine needs none.
    #[serde(skip)]
    pub constraint_field: Option<&'static str>,
    /// Whether a tool may, must or must not be called.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// Whether at most one tool is called in one answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_call: bool,
    /// Whether JSON that names a tool at the beginning of an answer counts as a call of it;
    /// `None`: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_mode: Option<CallMode>,
    /// Whether the model reasons first; `None` leaves it to the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// Where the reasoning is in the answer.
    #[serde(default, skip_serializing_if = "ReasoningFormat::is_default")]
    pub reasoning_format: ReasoningFormat,
    /// The most tokens of reasoning; the engine then ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_budget: Option<u32>,
    /// Further variables of the chat template.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// Whether the model continues the last message, which is the assistant's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_final_message: bool,
    /// How many of the first messages are likely to begin other conversations too, and are
    /// worth caching; `None`: the system messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_messages: Option<u32>,
    /// When it was accepted, in seconds since 1970: the current time for the chat template.
    #[serde(default)]
    pub accepted_unix_s: i64,
    /// Report each token's probability and that of this many others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Report the probabilities of the prompt's tokens, too: it is then computed from its
    /// start, and slower.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prompt_logprobs: bool,
    /// What to do if it is longer than the context.
    #[serde(default)]
    pub overflow: Overflow,
    /// Tokens of the answer that an engine sent before it crashed: continue after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<i32>,
    /// Only compute and cache the prompt's stable prefix; no answer.
    #[serde(default)]
    pub prewarm: bool,
    /// Which earlier results it may reuse.
    #[serde(default)]
    pub reuse: Reuse,
    /// The adapters that it applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lora: Vec<Lora>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string appeared.
    Stop,
    /// `max_tokens`, the end of the context or the bound on the time was reached.
    Length,
}

impl std::str::FromStr for CallMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "strict" => Ok(Self::Strict),
            "lenient" => Ok(Self::Lenient),
            other => Err(format!("{other:?} is neither \"strict\" nor \"lenient\"")),
        }
    }
}

impl FinishReason {
    /// OpenAI's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }

    /// OpenAI's name for it if the answer contains this many calls. An answer that was cut
    /// off is not complete, with or without calls.
    pub fn with_calls(self, calls: usize) -> &'static str {
        match self {
            Self::Stop if calls > 0 => "tool_calls",
            other => other.as_str(),
        }
    }
}
