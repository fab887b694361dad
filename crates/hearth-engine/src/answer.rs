//! Splits an answer into content, reasoning and tool calls while it is generated.

use std::borrow::Cow;

use hearth_constraint::{Beginning, bare_calls, beginning};
use hearth_proto::{AnswerPart, FinishReason, ToolCall};
use serde_json::{Map, Value};

use crate::chat_shim::{ParsedAnswer, ParsedCall, Parser};

/// A long answer is parsed again only after it has grown by this fraction of its length
/// (1/4096): a parse takes time proportional to the length, so the total time stays
/// linear.
const GROWTH: usize = 4096;

/// Parses one answer.
#[derive(Debug)]
pub(super) struct AnswerReader {
    /// `None`: the answer is plain text.
    parser: Option<Parser>,
    /// Texts that end the reasoning.
    thinking_ends: Vec<String>,
    one_call: bool,
    /// An answer that begins with JSON is parsed as tool calls.
    is_lenient: bool,
    /// The reasoning stays in the text.
    kept: Option<KeptReasoning>,
    /// The answer so far.
    text: String,
    /// Its length in bytes when it was last parsed.
    read_bytes: usize,
    /// What was already emitted.
    emitted: Emitted,
}

#[derive(Debug, Default)]
struct Emitted {
    content: String,
    reasoning: String,
    calls: usize,
}

impl AnswerReader {
    /// A reader of plain text.
    pub(super) fn plain() -> Self {
        Self {
            parser: None,
            thinking_ends: Vec::new(),
            one_call: false,
            is_lenient: false,
            kept: None,
            text: String::new(),
            read_bytes: 0,
            emitted: Emitted::default(),
        }
    }

    /// A reader of the answer to a chat prompt.
    pub(super) fn chat(parser: Parser, thinking_ends: Vec<String>, one_call: bool) -> Self {
        Self {
            parser: Some(parser),
            thinking_ends,
            one_call,
            ..Self::plain()
        }
    }

    /// Sets whether an answer that begins with JSON is parsed as tool calls.
    pub(super) fn lenient(mut self, is_lenient: bool) -> Self {
        self.is_lenient = is_lenient;
        self
    }

    /// Sets that the reasoning stays in the text.
    pub(super) fn keeping(mut self, kept: Option<KeptReasoning>) -> Self {
        self.kept = kept;
        self
    }

    /// Parses the answer so far (`is_partial`), or the complete answer.
    fn read(&self, is_partial: bool) -> Option<ParsedAnswer> {
        let answer = self.parser.as_ref()?.parse(&self.text, is_partial).ok()?;
        if !self.is_lenient || !answer.tool_calls.is_empty() {
            return Some(answer);
        }
        let calls = match beginning(answer.content.as_bytes()) {
            Beginning::Open if is_partial => Vec::new(),
            Beginning::Open | Beginning::Text => return Some(answer),
            Beginning::Call(json) => bare_calls(&String::from_utf8_lossy(json)),
        };
        let parsed = |call: ToolCall| ParsedCall {
            name: call.name,
            arguments: call.arguments.to_string(),
            ..ParsedCall::default()
        };
        Some(ParsedAnswer {
            content: String::new(),
            tool_calls: calls.into_iter().map(parsed).collect(),
            ..answer
        })
    }

    /// Marks the part of the answer that the prompt already contains as emitted.
    pub(super) fn continuing(mut self) -> Self {
        let begun = self.read(true);
        if let Some(begun) = begun {
            _ = self.emit(&begun, 0, false);
        }
        self
    }

    /// Adds text; returns the parts that can no longer change.
    pub(super) fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        if self.parser.is_none() {
            return content(text.to_owned()).into_iter().collect();
        }
        self.text.push_str(text);
        if self.text.len() - self.read_bytes <= self.text.len() / GROWTH {
            return Vec::new();
        }
        self.read_bytes = self.text.len();
        match self.read(true) {
            Some(answer) => {
                // The last call may still grow.
                let certain = answer.tool_calls.len().saturating_sub(1);
                self.emit(&answer, certain, false)
            }
            // It does not parse yet, or not at all: `finish` decides.
            None => Vec::new(),
        }
    }

    /// Returns the remaining parts when the answer is complete.
    pub(super) fn finish(&mut self, reason: FinishReason) -> Vec<AnswerPart> {
        if self.parser.is_none() {
            return Vec::new();
        }
        let whole = || self.read(false);
        let beginning = || self.read(true);
        let answer = if reason == FinishReason::Length {
            let something = |answer: &ParsedAnswer| *answer != ParsedAnswer::default();
            beginning().filter(something).or_else(whole)
        } else {
            whole().or_else(|| beginning().filter(|answer| !answer.tool_calls.is_empty()))
        };
        let Some(answer) = answer else {
            // It does not have the template's format: the text itself is the answer.
            return self.emit_text();
        };
        // The layer completes what is missing, even where the model has stopped; an
        // incomplete call does not count.
        let calls = answer.tool_calls.iter().map_while(complete).count();
        self.emit(&answer, calls, true)
    }

    /// Emits what is new in `answer`, with this many of its calls. Whitespace at the end
    /// of its text may precede a call: it is held back until the answer is complete.
    fn emit(&mut self, answer: &ParsedAnswer, calls: usize, is_over: bool) -> Vec<AnswerPart> {
        let mut parts = Vec::new();
        let reasoning = answer.reasoning.trim();
        let is_apart = self.kept.as_ref().is_none_or(|kept| kept.is_apart_too);
        if is_apart && let Some(more) = new_part(&mut self.emitted.reasoning, reasoning) {
            parts.push(AnswerPart::Reasoning(more));
        }
        let text = text_of(answer, is_over);
        let text = match &self.kept {
            Some(kept) if !reasoning.is_empty() => {
                let is_closed = !text.is_empty() || !answer.tool_calls.is_empty();
                Cow::Owned(kept.text(reasoning, text, is_closed))
            }
            _ => Cow::Borrowed(text),
        };
        if let Some(more) = new_part(&mut self.emitted.content, &text) {
            parts.push(AnswerPart::Content(more));
        }
        let most = if self.one_call { calls.min(1) } else { calls };
        let calls = answer.tool_calls.iter().take(most).skip(self.emitted.calls);
        parts.extend(calls.filter_map(complete).map(AnswerPart::ToolCall));
        self.emitted.calls = self.emitted.calls.max(most);
        parts
    }

    fn emit_text(&mut self) -> Vec<AnswerPart> {
        let ends = self.thinking_ends.iter();
        let from = ends
            .filter_map(|end| Some(self.text.rfind(end.as_str())? + end.len()))
            .max()
            .unwrap_or(0);
        let text = self.text[from..].trim_start();
        let rest = text.strip_prefix(self.emitted.content.as_str());
        content(rest.unwrap_or_default().to_owned())
            .into_iter()
            .collect()
    }
}

/// How reasoning is written into the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptReasoning {
    /// The tag before it.
    pub(super) start: String,
    /// The tag after it.
    pub(super) end: String,
    /// Whether it is emitted apart from the text, too.
    pub(super) is_apart_too: bool,
}

impl KeptReasoning {
    /// The text with the reasoning before it; `is_closed` if the reasoning has ended.
    fn text(&self, reasoning: &str, text: &str, is_closed: bool) -> String {
        let Self { start, end, .. } = self;
        if is_closed {
            format!("{start}\n{reasoning}\n{end}\n\n{text}")
        } else {
            format!("{start}\n{reasoning}")
        }
    }
}

/// The content without the whitespace between it and reasoning or calls.
fn text_of(answer: &ParsedAnswer, is_over: bool) -> &str {
    let text = if answer.reasoning.is_empty() {
        answer.content.as_str()
    } else {
        answer.content.trim_start()
    };
    if is_over && answer.tool_calls.is_empty() {
        text
    } else {
        text.trim_end()
    }
}

fn content(text: String) -> Option<AnswerPart> {
    (!text.is_empty()).then_some(AnswerPart::Content(text))
}

/// The text of `now` after `emitted`, which is appended to `emitted`; `None` where there is
/// none, or `now` does not start with `emitted`.
fn new_part(emitted: &mut String, now: &str) -> Option<String> {
    let more = now.strip_prefix(emitted.as_str())?.to_owned();
    emitted.push_str(&more);
    (!more.is_empty()).then_some(more)
}

/// The call, if its arguments are complete JSON.
fn complete(call: &ParsedCall) -> Option<ToolCall> {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments).ok()?;
    (!call.name.is_empty()).then(|| ToolCall::new(&call.name, arguments.into()))
}
