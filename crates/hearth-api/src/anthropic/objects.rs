//! The objects of a response and of its events. Fields are sent in the order of the structs.

use hearth_proto::Usage;
use serde::Serialize;
use serde_json::Value;

/// A message of the model.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub id: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub role: &'static str,
    pub model: &'a str,
    pub content: Vec<Block>,
    /// Null while the message is not complete, as is the next one.
    pub stop_reason: Option<&'static str>,
    pub stop_sequence: Option<&'a str>,
    pub usage: UsageBody,
}

/// A block of its content.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        signature: &'static str,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct UsageBody {
    /// Those that were computed: with those from the cache, all of the prompt.
    input_tokens: u32,
    /// What is written to the cache is not counted separately.
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
    output_tokens: u32,
    output_tokens_details: OutputTokens,
}

#[derive(Clone, Copy, Serialize)]
struct OutputTokens {
    thinking_tokens: u32,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokens {
                thinking_tokens: usage.reasoning_tokens,
            },
        }
    }
}

/// An event of a stream; its name is its type.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    MessageStart { message: Message<'a> },
    Ping,
    ContentBlockStart { index: usize, content_block: Block },
    ContentBlockDelta { index: usize, delta: Delta },
    ContentBlockStop { index: usize },
    MessageDelta { delta: End<'a>, usage: UsageBody },
    MessageStop,
}

/// More of a block.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names are Anthropic's")]
pub(super) enum Delta {
    TextDelta { text: String },
    ThinkingDelta { thinking: String },
    SignatureDelta { signature: &'static str },
    InputJsonDelta { partial_json: String },
}

/// Why a message ended.
#[derive(Clone, Copy, Serialize)]
pub(super) struct End<'a> {
    pub stop_reason: &'static str,
    pub stop_sequence: Option<&'a str>,
}
