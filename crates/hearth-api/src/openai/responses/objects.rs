//! The objects of a response and of its events. Fields are sent in the order of the
//! structs.

use hearth_proto::Usage;
use serde::Serialize;
use serde_json::{Map, Value};

/// A list that is always empty.
type Empty = [u8; 0];

#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub id: String,
    pub object: &'static str,
    pub created_at: u64,
    pub status: Status,
    pub background: bool,
    pub error: Option<ErrorBody<'a>>,
    pub incomplete_details: Option<IncompleteDetails>,
    pub model: &'a str,
    pub output: &'a [OutputItem],
    /// Always null.
    pub previous_response_id: (),
    pub store: bool,
    pub usage: Option<UsageBody>,
    /// Fields of the request.
    #[serde(flatten)]
    pub echo: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct ErrorBody<'a> {
    pub code: &'a str,
    pub message: &'a str,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct IncompleteDetails {
    pub reason: &'static str,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct UsageBody {
    input_tokens: u32,
    input_tokens_details: InputTokens,
    output_tokens: u32,
    output_tokens_details: OutputTokens,
    total_tokens: u32,
}

#[derive(Clone, Copy, Serialize)]
struct InputTokens {
    cached_tokens: u32,
}

#[derive(Clone, Copy, Serialize)]
struct OutputTokens {
    /// They are counted as output tokens, not separately.
    reasoning_tokens: u32,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokens {
                cached_tokens: usage.cached_tokens,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokens {
                reasoning_tokens: usage.reasoning_tokens,
            },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// A part of the output.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum OutputItem {
    Message {
        id: String,
        status: Status,
        role: &'static str,
        content: Vec<ContentPart>,
    },
    Reasoning {
        id: String,
        status: Status,
        summary: Empty,
        content: Vec<ContentPart>,
    },
    FunctionCall {
        id: String,
        call_id: String,
        name: String,
        arguments: String,
        status: Status,
    },
}

/// A part of an item's text.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart {
    OutputText {
        text: String,
        annotations: Empty,
        logprobs: Empty,
    },
    ReasoningText {
        text: String,
    },
}

/// The kinds of items with text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    Message,
    Reasoning,
}

impl TextKind {
    /// Prefix of an item's id.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Self::Message => "msg",
            Self::Reasoning => "rs",
        }
    }

    /// Prefix of the names of its text events.
    pub(super) fn text_events(self) -> &'static str {
        match self {
            Self::Message => "response.output_text",
            Self::Reasoning => "response.reasoning_text",
        }
    }

    /// What its text events have besides the text.
    pub(super) fn logprobs(self) -> Option<Empty> {
        (self == Self::Message).then_some([])
    }

    pub(super) fn part(self, text: String) -> ContentPart {
        match self {
            Self::Message => ContentPart::OutputText {
                text,
                annotations: [],
                logprobs: [],
            },
            Self::Reasoning => ContentPart::ReasoningText { text },
        }
    }

    pub(super) fn item(self, id: String, status: Status, content: Vec<ContentPart>) -> OutputItem {
        match self {
            Self::Message => OutputItem::Message {
                id,
                status,
                role: "assistant",
                content,
            },
            Self::Reasoning => OutputItem::Reasoning {
                id,
                status,
                summary: [],
                content,
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(flatten)]
    pub fields: EventFields<'a>,
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub sequence_number: u64,
}

/// Where in the output a text is.
#[derive(Clone, Copy, Serialize)]
pub(super) struct TextPlace<'a> {
    pub item_id: &'a str,
    pub output_index: usize,
    /// An item has one part.
    pub content_index: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum EventFields<'a> {
    Response {
        response: Response<'a>,
    },
    Item {
        output_index: usize,
        item: &'a OutputItem,
    },
    Part {
        #[serde(flatten)]
        place: TextPlace<'a>,
        part: ContentPart,
    },
    Delta {
        #[serde(flatten)]
        place: TextPlace<'a>,
        delta: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<Empty>,
    },
    Text {
        #[serde(flatten)]
        place: TextPlace<'a>,
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<Empty>,
    },
    ArgumentsDelta {
        item_id: &'a str,
        output_index: usize,
        delta: &'a str,
    },
    Arguments {
        item_id: &'a str,
        output_index: usize,
        name: &'a str,
        arguments: &'a str,
    },
}
