//! Calls that an answer begins with, written as JSON without the marks of the template.

use hearth_proto::ToolCall;
use serde_json::Value;

/// What the beginning of an answer can be.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning<'a> {
    /// A call, from its JSON on.
    Call(&'a [u8]),
    /// Not determined yet.
    Open,
    /// Text.
    Text,
}

/// The calls in a JSON text, up to the first incomplete one.
pub fn bare_calls(text: &str) -> Vec<ToolCall> {
    #[derive(serde::Deserialize)]
    struct Bare {
        name: String,
        arguments: serde_json::Map<String, Value>,
    }
    let mut calls = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Bare>();
        let Some(Ok(call)) = values.next() else {
            return calls;
        };
        calls.push(ToolCall::new(call.name, call.arguments.into()));
        rest = rest.get(values.byte_offset()..).unwrap_or_default();
    }
}

/// Classifies the beginning of an answer: JSON, bare or in a code fence, or text.
pub fn beginning(answer: &[u8]) -> Beginning<'_> {
    const FENCE: &[u8] = b"```";
    let text = answer.trim_ascii_start();
    if text.is_empty() || text.len() < FENCE.len() && FENCE.starts_with(text) {
        return Beginning::Open;
    }
    if text.starts_with(b"{") {
        return Beginning::Call(text);
    }
    let Some(inside) = text.strip_prefix(FENCE) else {
        return Beginning::Text;
    };
    let language = b"json".as_slice();
    let inside = match inside.strip_prefix(language) {
        Some(rest) => rest,
        None if inside.len() < language.len() && language.starts_with(inside) => {
            return Beginning::Open;
        }
        None => inside,
    };
    let inside = inside.trim_ascii_start();
    match inside.first() {
        None => Beginning::Open,
        Some(b'{') => Beginning::Call(inside),
        Some(_) => Beginning::Text,
    }
}
