//! Answers into the items and events of a response.

use hearth_proto::{Answer, AnswerPart, FinishReason, RequestId, TokenLogprob, ToolCall, Usage};
use serde_json::{Map, Value};

use super::ResponsesRequest;
use super::objects::{
    ErrorBody, Event, EventFields, IncompleteDetails, OutputItem, Response, Status, TextKind,
    TextPlace,
};
use crate::Chunks;
use crate::encode::value;
use crate::openai::call_id;
use crate::openai::response::unix_seconds;

/// Encodes the parts of an answer as events of a response.
#[derive(Debug)]
pub struct ResponsesStream {
    id: RequestId,
    model: String,
    created: u64,
    echo: Map<String, Value>,
    /// Calls so far.
    calls: usize,
    /// Events so far.
    sequence: u64,
    /// Complete items.
    output: Vec<OutputItem>,
    /// The item that text is added to.
    open: Option<TextItem>,
    /// Known when the answer is complete.
    usage: Option<Usage>,
}

/// An item with text.
#[derive(Debug)]
struct TextItem {
    kind: TextKind,
    id: String,
    text: String,
}

impl ResponsesStream {
    /// A stream for the answer to this request.
    pub fn new(id: RequestId, model: &str, request: &ResponsesRequest) -> Self {
        Self {
            id,
            model: model.to_owned(),
            created: unix_seconds(),
            echo: request.echo.clone(),
            calls: 0,
            sequence: 0,
            output: Vec::new(),
            open: None,
            usage: None,
        }
    }

    /// The response to a request whose answer is complete.
    pub fn whole(mut self, answer: &Answer) -> Value {
        let calls = answer.calls.iter().cloned().map(AnswerPart::ToolCall);
        let texts = [
            AnswerPart::Reasoning(answer.reasoning.clone()),
            AnswerPart::Content(answer.content.clone()),
        ];
        let has_text = |part: &AnswerPart| match part {
            AnswerPart::Reasoning(text) | AnswerPart::Content(text) => !text.is_empty(),
            AnswerPart::ToolCall(_) => true,
        };
        let parts = texts.into_iter().filter(has_text).chain(calls).collect();
        _ = self.token(0, parts, Vec::new());
        _ = self.end(answer.reason, &answer.usage);
        value(&self.finished(answer.reason))
    }

    /// The event that ends a response which cannot be completed. `code` is one of
    /// OpenAI's: `server_error`, `rate_limit_exceeded`, `invalid_prompt`.
    pub fn failed(&mut self, code: &str, message: &str) -> Value {
        let sequence_number = self.next_number();
        let response = Response {
            error: Some(ErrorBody { code, message }),
            ..self.response(Status::Failed)
        };
        event(
            "response.failed",
            sequence_number,
            EventFields::Response { response },
        )
    }

    /// The number of the next event.
    fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn response(&self, status: Status) -> Response<'_> {
        Response {
            id: format!("resp_{:x}", self.id),
            object: "response",
            created_at: self.created,
            status,
            background: false,
            error: None,
            incomplete_details: None,
            model: &self.model,
            output: &self.output,
            previous_response_id: (),
            store: false,
            usage: self.usage.as_ref().map(Into::into),
            echo: &self.echo,
            completed_at: None,
        }
    }

    /// The response whose answer is complete.
    fn finished(&self, reason: FinishReason) -> Response<'_> {
        match reason {
            FinishReason::Length => Response {
                incomplete_details: Some(IncompleteDetails {
                    reason: "max_output_tokens",
                }),
                ..self.response(Status::Incomplete)
            },
            FinishReason::Stop => Response {
                completed_at: Some(unix_seconds()),
                ..self.response(Status::Completed)
            },
        }
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{:x}_{}", self.id, self.output.len())
    }

    fn add_text(&mut self, kind: TextKind, text: &str, events: &mut Vec<Value>) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(Status::Completed, events);
            self.begin(kind, events);
        }
        if text.is_empty() {
            return;
        }
        let sequence_number = self.next_number();
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            events.push(event(
                &format!("{}.delta", kind.text_events()),
                sequence_number,
                EventFields::Delta {
                    place: place(&open.id, self.output.len()),
                    delta: text,
                    logprobs: kind.logprobs(),
                },
            ));
        }
    }

    fn begin(&mut self, kind: TextKind, events: &mut Vec<Value>) {
        let id = self.item_id(kind.id_prefix());
        self.item_added(
            &kind.item(id.clone(), Status::InProgress, Vec::new()),
            events,
        );
        events.push(event(
            "response.content_part.added",
            self.next_number(),
            EventFields::Part {
                place: place(&id, self.output.len()),
                part: kind.part(String::new()),
            },
        ));
        self.open = Some(TextItem {
            kind,
            id,
            text: String::new(),
        });
    }

    /// Completes the item that text was added to, if there is one.
    fn close(&mut self, status: Status, events: &mut Vec<Value>) {
        let Some(TextItem { kind, id, text }) = self.open.take() else {
            return;
        };
        let place = place(&id, self.output.len());
        events.push(event(
            &format!("{}.done", kind.text_events()),
            self.next_number(),
            EventFields::Text {
                place,
                text: &text,
                logprobs: kind.logprobs(),
            },
        ));
        let part = kind.part(text);
        events.push(event(
            "response.content_part.done",
            self.next_number(),
            EventFields::Part {
                place,
                part: part.clone(),
            },
        ));
        self.item_done(kind.item(id, status, vec![part]), events);
    }

    fn item_added(&mut self, item: &OutputItem, events: &mut Vec<Value>) {
        let fields = EventFields::Item {
            output_index: self.output.len(),
            item,
        };
        events.push(event(
            "response.output_item.added",
            self.next_number(),
            fields,
        ));
    }

    fn item_done(&mut self, item: OutputItem, events: &mut Vec<Value>) {
        let fields = EventFields::Item {
            output_index: self.output.len(),
            item: &item,
        };
        events.push(event(
            "response.output_item.done",
            self.next_number(),
            fields,
        ));
        self.output.push(item);
    }

    /// A call is complete: it is sent in one delta.
    fn add_call(&mut self, call: &ToolCall, events: &mut Vec<Value>) {
        self.close(Status::Completed, events);
        let id = self.item_id("fc");
        let call_id = call_id(self.id, self.calls);
        self.calls += 1;
        let output_index = self.output.len();
        let item = |arguments, status| OutputItem::FunctionCall {
            id: id.clone(),
            call_id: call_id.clone(),
            name: call.name.clone(),
            arguments,
            status,
        };
        self.item_added(&item(String::new(), Status::InProgress), events);
        let arguments = call.arguments.to_string();
        events.push(event(
            "response.function_call_arguments.delta",
            self.next_number(),
            EventFields::ArgumentsDelta {
                item_id: &id,
                output_index,
                delta: &arguments,
            },
        ));
        events.push(event(
            "response.function_call_arguments.done",
            self.next_number(),
            EventFields::Arguments {
                item_id: &id,
                output_index,
                name: &call.name,
                arguments: &arguments,
            },
        ));
        self.item_done(item(arguments, Status::Completed), events);
    }

    /// Completes the output.
    fn end(&mut self, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        self.usage = Some(*figures);
        let mut events = Vec::new();
        if self.open.is_none() && self.output.is_empty() {
            // An empty answer is a message, too.
            self.begin(TextKind::Message, &mut events);
        }
        let status = match reason {
            FinishReason::Length => Status::Incomplete,
            FinishReason::Stop => Status::Completed,
        };
        self.close(status, &mut events);
        events
    }
}

fn place(item_id: &str, output_index: usize) -> TextPlace<'_> {
    TextPlace {
        item_id,
        output_index,
        content_index: 0,
    }
}

fn event(kind: &str, sequence_number: u64, fields: EventFields<'_>) -> Value {
    value(&Event {
        fields,
        kind,
        sequence_number,
    })
}

impl Chunks for ResponsesStream {
    fn open(&mut self) -> Vec<Value> {
        ["response.created", "response.in_progress"]
            .map(|kind| {
                let number = self.next_number();
                let response = self.response(Status::InProgress);
                event(kind, number, EventFields::Response { response })
            })
            .into()
    }

    fn token(&mut self, _: usize, parts: Vec<AnswerPart>, _: Vec<TokenLogprob>) -> Vec<Value> {
        let mut events = Vec::new();
        for part in parts {
            match part {
                AnswerPart::Content(text) => self.add_text(TextKind::Message, &text, &mut events),
                AnswerPart::Reasoning(text) => {
                    self.add_text(TextKind::Reasoning, &text, &mut events);
                }
                AnswerPart::ToolCall(call) => self.add_call(&call, &mut events),
            }
        }
        events
    }

    fn finish(&mut self, _: usize, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let mut events = self.end(reason, figures);
        let number = self.next_number();
        let response = self.finished(reason);
        let kind = match reason {
            FinishReason::Length => "response.incomplete",
            FinishReason::Stop => "response.completed",
        };
        events.push(event(kind, number, EventFields::Response { response }));
        events
    }

    fn is_over(&self) -> bool {
        self.usage.is_some()
    }
}

#[cfg(test)]
mod tests;
