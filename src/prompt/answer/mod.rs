//! What a model's answer is made of: text, reasoning, tool calls.

mod call;
mod format;
mod parser;
#[cfg(test)]
mod tests;

pub use call::ToolCall;
pub use format::{is_marker, opens_reasoning};
pub use parser::{AnswerParser, Part, Reading};

/// Where reasoning begins.
const THINK: &str = "<think>";
/// Where it ends.
const THINK_END: &str = "</think>";
