//! What an answer is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call the model asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
    /// How sure the model was; `None` where nothing bound its choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
}

/// How sure a model was of what it chose, among what it was allowed to choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// The probability of all choices together, 0 to 1.
    pub probability: f32,
    /// The text of the answer before the least certain choice.
    pub before: String,
    /// What the likeliest choices there were, with their probabilities, likeliest first.
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
    /// What the model thought before it answered.
    Reasoning(String),
    /// A whole call.
    ToolCall(ToolCall),
}
