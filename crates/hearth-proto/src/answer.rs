//! The parts of an answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One tool call that the model requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
    /// The model's confidence; `None` if no constraint limited its choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
}

/// How confident a model was in its choices, among those that it was allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// The probability of all choices together, 0 to 1.
    pub probability: f32,
    /// The text of the answer before the least certain choice.
    pub before: String,
    /// The most likely choices at that place, with their probabilities, most likely first.
    pub choices: Vec<(String, f32)>,
}

impl ToolCall {
    /// A call with these arguments.
    pub fn new(name: impl Into<String>, arguments: Value) -> Self {
        Self {
            name: name.into(),
            arguments,
            confidence: None,
        }
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerPart {
    /// Text for the reader.
    Content(String),
    /// Reasoning of the model before its answer.
    Reasoning(String),
    /// A complete call.
    ToolCall(ToolCall),
}

impl AnswerPart {
    /// Its text for the reader, if it is such.
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::Content(text) => Some(text),
            Self::Reasoning(_) | Self::ToolCall(_) => None,
        }
    }
}
