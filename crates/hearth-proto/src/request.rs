//! One generation request and what comes of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Sampling, Use};

/// Names one request for as long as the daemon runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who goes first. `Interactive < Normal < Background` in the derived order.
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

    /// The class after having waited so long: one higher for each `step`.
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

/// One message of a chat, as the template in the model file wants it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`; templates may know more.
    pub role: String,
    /// The text; empty where there is none (an assistant's pure tool call).
    #[serde(default)]
    pub content: String,
    /// What the assistant thought before; templates decide whether the model sees it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning_content: String,
    /// The assistant's tool calls, in OpenAI form but with `arguments` as an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of a tool or speaker, where given.
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

/// What the model is to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Messages, put through the chat template of the model file.
    Chat {
        /// The conversation, oldest first.
        messages: Vec<Message>,
        /// Tools offered to the model, in OpenAI form.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<serde_json::Value>,
    },
    /// Text as it is, without template.
    Text(String),
}

impl Prompt {
    /// What a model has to be able to do with it.
    pub fn wanted(&self) -> Use {
        match self {
            Self::Chat { .. } => Use::Chat,
            Self::Text(_) => Use::Completion,
        }
    }
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// What an answer must look like. It is enforced token by token, so that what comes
/// out is always valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid against a JSON schema. Objects in it have no properties but those
    /// that it names, unless it says so.
    JsonSchema(serde_json::Value),
    /// JSON that is valid against a JSON schema, whose objects may have other properties
    /// where it does not forbid them.
    OpenSchema(serde_json::Value),
    /// The same, but for what cannot be guaranteed or is not known: that is ignored.
    LenientSchema(serde_json::Value),
    /// Text that a regular expression matches from begin to end.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    /// A grammar in llama.cpp's GBNF.
    Gbnf(String),
}

/// Stack of the thread that compiles a [`Constraint`], in bytes; it is part of a model's
/// memory estimate. Compiling recurses: about 4 KiB a level, and the bounds on the input
/// let a chain of references or rules reach some ten thousand levels. Only what is touched
/// is real.
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

/// What of an answer is a call of a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallMode {
    /// What has the form of the model's family.
    #[default]
    Strict,
    /// Also an answer that begins with JSON, bare or in a fence: many small models stray
    /// from their family's form.
    Lenient,
}

/// What to do with a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Refuse it with `ContextTooLong`.
    #[default]
    Error,
    /// Leave out messages from the middle: system messages and the latest stay.
    TruncateMiddle,
}

/// What of earlier work a request may build on. Sums come out a little otherwise where a
/// prompt is computed in other parts, or beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// On whatever is in the prompt cache.
    #[default]
    Allowed,
    /// On nothing (`cache_prompt: false`), and nothing of it is kept.
    Denied,
    /// On nothing, and nothing else is computed or in memory meanwhile, so that the same
    /// request gets the same numbers to the last bit.
    Reproducible,
}

/// Whether the model thinks before it answers, where its chat template lets one choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// It answers at once.
    Off,
    /// As much as it wants.
    On,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Thinking {
    /// The template's `reasoning_effort`; `None` where it is left to the model.
    pub fn effort(self) -> Option<&'static str> {
        match self {
            Self::Off | Self::On => None,
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        }
    }
}

/// A token with its probability, and the likeliest ones in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
    /// The likeliest tokens in its place, likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(Vec<u8>, f32)>,
}

/// One request as the engine gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// Chosen by the daemon; all events carry it.
    pub id: RequestId,
    /// What to continue.
    pub prompt: Prompt,
    /// How to choose tokens.
    #[serde(default)]
    pub sampling: Sampling,
    /// Stop after this many tokens; `None`: until the model ends or the context is full.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Stop before any of these appears; they are not part of the answer.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Its class; the engine computes higher ones first.
    #[serde(default)]
    pub priority: Priority,
    /// Whose prompt-cache entries it may use and makes; `None`: everybody's.
    #[serde(default)]
    pub uid: Option<u32>,
    /// What the answer must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Whether a tool is called.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// At most one tool is called in one answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_call: bool,
    /// Whether JSON that names a tool at the beginning of an answer is a call of it;
    /// `None`: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_mode: Option<CallMode>,
    /// Whether the model thinks first; `None` leaves it to the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The most tokens of reasoning; the engine ends it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_budget: Option<u32>,
    /// Further variables of the chat template.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// The model goes on with the last message, which is the assistant's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_final_message: bool,
    /// How many of the first messages begin other conversations as well, and are worth
    /// keeping; `None`: the system messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_messages: Option<u32>,
    /// When it was accepted, in seconds since 1970: the chat template's clock.
    #[serde(default)]
    pub accepted_unix_s: i64,
    /// Report each token's probability and that of so many others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Longer than the context: what then?
    #[serde(default)]
    pub overflow: Overflow,
    /// Tokens of the answer that were sent already, by an engine that has died since:
    /// go on after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<i32>,
    /// Only compute the prompt's stable prefix and keep it; no answer.
    #[serde(default)]
    pub prewarm: bool,
    /// Whether it may use what was computed before.
    #[serde(default)]
    pub reuse: Reuse,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` or the context's end was reached.
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
    /// OpenAI's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }

    /// OpenAI's word for it where the answer holds so many calls. An answer that was cut
    /// off is not complete, calls or not.
    pub fn with_calls(self, calls: usize) -> &'static str {
        match self {
            Self::Stop if calls > 0 => "tool_calls",
            other => other.as_str(),
        }
    }
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, found in the prompt cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Time spent on the prompt.
    pub prefill_ms: f64,
    /// Time spent on generating.
    pub decode_ms: f64,
}

impl Usage {
    /// Generated tokens a second; 0 where nothing was timed.
    pub fn tokens_per_second(&self) -> f64 {
        if self.decode_ms > 0.0 {
            f64::from(self.completion_tokens) * 1000.0 / self.decode_ms
        } else {
            0.0
        }
    }
}
