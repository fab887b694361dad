//! The forms in which models write tool calls.

use super::{THINK, THINK_END};
use crate::protocol::CallFormat;

const HERMES: &str = "<tool_call>";
const HERMES_END: &str = "</tool_call>";
const LLAMA: &str = "<|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS]";
const MISTRAL_ID: &str = "[CALL_ID]";
const MISTRAL_ARGUMENTS: &str = "[ARGS]";

impl CallFormat {
    /// The form that a chat template teaches; Hermes where it says nothing of tools, as
    /// `ChatML` models follow it most.
    pub fn of(template: &str) -> Self {
        let has = |word: &str| template.contains(word);
        if has(MISTRAL) {
            Self::Mistral
        } else if has(HERMES) {
            Self::Hermes
        } else if has(LLAMA) || has("<|start_header_id|>") && has("parameters") {
            Self::Llama
        } else if has("tools") {
            Self::Json
        } else {
            Self::Hermes
        }
    }
}

/// Whether a rendered prompt ends inside an open `<think>`, as the templates of some
/// models that always reason do.
pub fn opens_reasoning(prompt: &str) -> bool {
    prompt.trim_end().ends_with(THINK)
}

/// Whether a token's text is one that answers are read by. Some models have them as
/// control tokens, which else are no part of the text.
pub fn is_marker(token: &[u8]) -> bool {
    [
        THINK,
        THINK_END,
        HERMES,
        HERMES_END,
        LLAMA,
        MISTRAL,
        MISTRAL_ID,
        MISTRAL_ARGUMENTS,
    ]
    .iter()
    .any(|marker| marker.as_bytes() == token)
}

/// What begins a call.
pub(super) fn open(format: CallFormat) -> Option<&'static str> {
    match format {
        CallFormat::Hermes => Some(HERMES),
        CallFormat::Llama => Some(LLAMA),
        CallFormat::Mistral => Some(MISTRAL),
        CallFormat::Json => None,
    }
}

/// Whether a call may be the whole answer, without any marker.
pub(super) fn may_be_bare(format: CallFormat) -> bool {
    format != CallFormat::Hermes
}

/// What stands where a call is expected.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// Cannot be told yet.
    Unknown,
    /// No call.
    Other,
    /// The end of the calls, so many bytes.
    End(usize),
    /// JSON at this byte; and the function's name where that stood in front.
    Value(usize, Option<&'a str>),
}

/// Behind the marker that begins calls.
pub(super) fn first(format: CallFormat, text: &str) -> Next<'_> {
    let rest = text.trim_start();
    let at = text.len() - rest.len();
    match rest.chars().next() {
        None => Next::Unknown,
        Some('{' | '[') => Next::Value(at, None),
        _ if format == CallFormat::Mistral => named(text, at),
        _ => Next::Other,
    }
}

/// Behind a call.
pub(super) fn further(format: CallFormat, text: &str) -> Next<'_> {
    let rest = text.trim_start_matches(is_separator);
    let at = text.len() - rest.len();
    if format == CallFormat::Hermes && rest.starts_with(HERMES_END) {
        return Next::End(at + HERMES_END.len());
    }
    let begins = |marker: &str| marker.starts_with(rest);
    if begins(HERMES_END) && format == CallFormat::Hermes || open(format).is_some_and(begins) {
        // Nothing at all is the begin of everything.
        return Next::Unknown;
    }
    match rest.chars().next() {
        None => Next::Unknown,
        Some('{' | '[') if open(format).is_none_or(|open| !rest.starts_with(open)) => {
            Next::Value(at, None)
        }
        Some(_) => Next::Other,
    }
}

/// What may stand between two calls.
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace() || c == ';'
}

/// `name[CALL_ID]id[ARGS]{…}`, where only the name and the object are a must.
fn named(text: &str, at: usize) -> Next<'_> {
    let name = word(text, at);
    let mut end = at + name.len();
    if name.is_empty() {
        return Next::Other;
    }
    for (marker, has_word) in [(MISTRAL_ID, true), (MISTRAL_ARGUMENTS, false)] {
        let rest = text.get(end..).unwrap_or_default();
        if marker.starts_with(rest) {
            return Next::Unknown;
        }
        if rest.starts_with(marker) {
            end += marker.len();
            if has_word {
                end += word(text, end).len();
            }
        }
    }
    let rest = text.get(end..).unwrap_or_default();
    let value = rest.trim_start();
    end += rest.len() - value.len();
    match value.chars().next() {
        None => Next::Unknown,
        Some('{') => Next::Value(end, Some(name)),
        Some(_) => Next::Other,
    }
}

fn word(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}
