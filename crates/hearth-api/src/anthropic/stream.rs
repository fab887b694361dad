//! Answers into messages and events.

use hearth_proto::{Answer, AnswerPart, FinishReason, RequestId, TokenLogprob, ToolCall, Usage};
use serde_json::Value;

use super::MessagesRequest;
use super::objects::{Block, Delta, End, Event, Message, UsageBody};
use crate::encode::value;
use crate::openai::call_id;
use crate::{Chunks, Progress};

/// The signature of a thinking block. Anthropic's service checks it; here it means nothing, but
/// some clients send no block back that has none.
const SIGNATURE: &str = "hearthd";

/// Encodes the parts of an answer as the events of a message.
#[derive(Debug)]
pub struct MessagesStream {
    request: RequestId,
    id: String,
    model: String,
    /// Whether the text of the model's thinking is left out.
    hides_thinking: bool,
    /// Whether the first event was sent.
    begun: bool,
    /// The figures of the prompt.
    prompt: Usage,
    /// Complete blocks.
    blocks: usize,
    /// The block that text is added to.
    open: Option<TextKind>,
    calls: usize,
    /// The stop string that ended the answer.
    stop_sequence: Option<String>,
    is_over: bool,
}

/// The kind of a block of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextKind {
    Text,
    Thinking,
}

impl MessagesStream {
    /// A stream for the answer to this request.
    pub fn new(id: RequestId, model: &str, request: &MessagesRequest) -> Self {
        Self {
            request: id,
            id: format!("msg_{id:x}"),
            model: model.to_owned(),
            hides_thinking: request.hides_thinking,
            begun: false,
            prompt: Usage::default(),
            blocks: 0,
            open: None,
            calls: 0,
            stop_sequence: None,
            is_over: false,
        }
    }

    /// The message of a complete answer.
    pub fn whole(&self, answer: &Answer) -> Value {
        let mut content = Vec::new();
        if !answer.reasoning.is_empty() {
            let thinking = if self.hides_thinking {
                String::new()
            } else {
                answer.reasoning.clone()
            };
            content.push(thinking_block(thinking, SIGNATURE));
        }
        if !answer.content.is_empty() {
            content.push(text_block(answer.content.clone()));
        }
        for (n, call) in answer.calls.iter().enumerate() {
            content.push(self.call(n, call, call.arguments.clone()));
        }
        if content.is_empty() {
            // Clients read the first one.
            content.push(text_block(String::new()));
        }
        let stop = answer.stop_string.as_deref();
        let end = end(answer.reason, answer.calls.len(), stop);
        value(&Message {
            stop_reason: Some(end.stop_reason),
            stop_sequence: end.stop_sequence,
            ..self.message(content, &answer.usage)
        })
    }

    fn message(&self, content: Vec<Block>, usage: &Usage) -> Message<'_> {
        Message {
            id: &self.id,
            kind: "message",
            role: "assistant",
            model: &self.model,
            content,
            stop_reason: None,
            stop_sequence: None,
            usage: usage.into(),
        }
    }

    /// The answer's `n`th call.
    fn call(&self, n: usize, call: &ToolCall, input: Value) -> Block {
        Block::ToolUse {
            id: call_id(self.request, n),
            name: call.name.clone(),
            input,
        }
    }

    /// Sends the first events, unless they were sent already.
    fn begin(&mut self, events: &mut Vec<Value>) {
        if !self.begun {
            self.begun = true;
            let message = self.message(Vec::new(), &self.prompt);
            events.push(value(&Event::MessageStart { message }));
            events.push(value(&Event::Ping));
        }
    }

    fn start(&self, content_block: Block) -> Value {
        let index = self.blocks;
        value(&Event::ContentBlockStart {
            index,
            content_block,
        })
    }

    fn delta(&self, delta: Delta) -> Value {
        let index = self.blocks;
        value(&Event::ContentBlockDelta { index, delta })
    }

    /// Ends the block that was sent last.
    fn stop(&mut self) -> Value {
        let index = self.blocks;
        self.blocks += 1;
        value(&Event::ContentBlockStop { index })
    }

    /// Begins a block of text.
    fn open(&mut self, kind: TextKind, events: &mut Vec<Value>) {
        self.open = Some(kind);
        events.push(self.start(match kind {
            TextKind::Text => text_block(String::new()),
            TextKind::Thinking => thinking_block(String::new(), ""),
        }));
    }

    fn add_text(&mut self, kind: TextKind, text: String, events: &mut Vec<Value>) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(kind) {
            self.close(events);
            self.open(kind, events);
        }
        match kind {
            TextKind::Text => events.push(self.delta(Delta::TextDelta { text })),
            TextKind::Thinking if self.hides_thinking => {}
            TextKind::Thinking => {
                events.push(self.delta(Delta::ThinkingDelta { thinking: text }));
            }
        }
    }

    /// Completes the block that text was added to, if there is one.
    fn close(&mut self, events: &mut Vec<Value>) {
        let Some(kind) = self.open.take() else {
            return;
        };
        if kind == TextKind::Thinking {
            let signature = SIGNATURE;
            events.push(self.delta(Delta::SignatureDelta { signature }));
        }
        events.push(self.stop());
    }

    /// A call is complete: it is sent in one delta.
    fn add_call(&mut self, call: &ToolCall, events: &mut Vec<Value>) {
        self.close(events);
        let block = self.call(self.calls, call, Value::Object(serde_json::Map::new()));
        self.calls += 1;
        events.push(self.start(block));
        let partial_json = call.arguments.to_string();
        events.push(self.delta(Delta::InputJsonDelta { partial_json }));
        events.push(self.stop());
    }
}

fn text_block(text: String) -> Block {
    Block::Text { text }
}

fn thinking_block(thinking: String, signature: &'static str) -> Block {
    Block::Thinking {
        thinking,
        signature,
    }
}

/// Why an answer with this many calls ended, and by which stop string.
fn end(reason: FinishReason, calls: usize, stop: Option<&str>) -> End<'_> {
    End {
        stop_reason: match reason {
            FinishReason::Length => "max_tokens",
            FinishReason::Stop if calls > 0 => "tool_use",
            FinishReason::Stop if stop.is_some() => "stop_sequence",
            FinishReason::Stop => "end_turn",
        },
        stop_sequence: stop,
    }
}

impl Chunks for MessagesStream {
    /// The first event has the figures of the prompt.
    fn prompt(&mut self, _: usize, progress: &Progress) -> Vec<Value> {
        self.prompt.prompt_tokens = progress.prompt_tokens;
        self.prompt.cached_tokens = progress.cached_tokens;
        let mut events = Vec::new();
        self.begin(&mut events);
        events
    }

    fn stopped_by(&mut self, _: usize, stop: &str) {
        self.stop_sequence = Some(stop.to_owned());
    }

    fn token(&mut self, _: usize, parts: Vec<AnswerPart>, _: Vec<TokenLogprob>) -> Vec<Value> {
        let mut events = Vec::new();
        self.begin(&mut events);
        for part in parts {
            match part {
                AnswerPart::Content(text) => self.add_text(TextKind::Text, text, &mut events),
                AnswerPart::Reasoning(text) => {
                    self.add_text(TextKind::Thinking, text, &mut events);
                }
                AnswerPart::ToolCall(call) => self.add_call(&call, &mut events),
            }
        }
        events
    }

    fn finish(&mut self, _: usize, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let mut events = Vec::new();
        self.begin(&mut events);
        if self.open.is_none() && self.blocks == 0 {
            // Clients read the first one.
            self.open(TextKind::Text, &mut events);
        }
        self.close(&mut events);
        events.push(value(&Event::MessageDelta {
            delta: end(reason, self.calls, self.stop_sequence.as_deref()),
            usage: UsageBody::from(figures),
        }));
        events.push(value(&Event::MessageStop));
        self.is_over = true;
        events
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests;
