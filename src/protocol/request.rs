//! One generation request and what comes of it.

use std::fmt;

use serde::{Deserialize, Serialize};

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

/// How the next token is chosen. `None` means: the model file's own
/// recommendation where it has one (`general.sampling.*`), else the config's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the likeliest that together reach p.
    pub top_p: Option<f32>,
    /// Keep what is at least this share as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Divides logits of recent tokens; 1 is off.
    pub repeat_penalty: Option<f32>,
    /// How many recent tokens the penalties look at.
    pub repeat_last_n: Option<u32>,
    /// Subtracted once from tokens seen (OpenAI).
    pub presence_penalty: Option<f32>,
    /// Subtracted per occurrence (OpenAI).
    pub frequency_penalty: Option<f32>,
    /// Makes sampling repeatable; drawn anew where `None`.
    pub seed: Option<u32>,
}

/// One request as the engine gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl FinishReason {
    /// OpenAI's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
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
