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
}

impl ToolCall {
    /// A call with these arguments.
    pub fn new(name: impl Into<String>, arguments: Value) -> Self {
        Self {
            name: name.into(),
            arguments,
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
