//! Answers into the items and events of a response.

use hearth_proto::{Answer, AnswerPart, FinishReason, RequestId, TokenLogprob, ToolCall, Usage};
use serde_json::{Map, Value, json};

use super::ResponsesRequest;
use crate::Chunks;
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
    output: Vec<Value>,
    /// The item that text is added to.
    open: Option<Item>,
    /// Known when the answer is complete.
    usage: Option<Usage>,
}

/// An item with text.
#[derive(Debug)]
struct Item {
    kind: Kind,
    id: String,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
}

impl Kind {
    /// Prefix of the names of its text events.
    fn text_events(self) -> &'static str {
        match self {
            Self::Message => "response.output_text",
            Self::Reasoning => "response.reasoning_text",
        }
    }

    fn part(self, text: &str) -> Value {
        match self {
            Self::Message => {
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
            }
            Self::Reasoning => json!({"type": "reasoning_text", "text": text}),
        }
    }

    fn item(self, id: &str, status: &str, content: &[Value]) -> Value {
        match self {
            Self::Message => json!({
                "type": "message", "id": id, "status": status, "role": "assistant",
                "content": content,
            }),
            Self::Reasoning => json!({
                "type": "reasoning", "id": id, "status": status, "summary": [],
                "content": content,
            }),
        }
    }
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
        let parts = [
            AnswerPart::Reasoning(answer.reasoning.clone()),
            AnswerPart::Content(answer.content.clone()),
        ];
        let is_text = |part: &AnswerPart| !matches!(part, AnswerPart::Reasoning(t) | AnswerPart::Content(t) if t.is_empty());
        let parts = parts.into_iter().filter(is_text).chain(calls).collect();
        _ = self.token(0, parts, Vec::new());
        let mut events = self.finish(0, answer.reason, &answer.usage);
        events
            .last_mut()
            .map(|last| last["response"].take())
            .unwrap_or_default()
    }

    /// The event that ends a response which cannot be completed. `code` is one of
    /// OpenAI's: `server_error`, `rate_limit_exceeded`, `invalid_prompt`.
    pub fn failed(&mut self, code: &str, message: &str) -> Value {
        let mut response = self.response("failed");
        response["error"] = json!({"code": code, "message": message});
        self.event("response.failed", json!({"response": response}))
    }

    fn event(&mut self, kind: &str, mut fields: Value) -> Value {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        fields
    }

    fn response(&self, status: &str) -> Value {
        let mut response = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": self.output,
            "previous_response_id": null,
            "store": false,
            "usage": self.usage.as_ref().map(usage),
        });
        if let Value::Object(fields) = &mut response {
            fields.extend(self.echo.clone());
        }
        response
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.id, self.output.len())
    }

    fn add(&mut self, parts: Vec<AnswerPart>) -> Vec<Value> {
        let mut events = Vec::new();
        for part in parts {
            match part {
                AnswerPart::Content(text) => self.add_text(Kind::Message, &text, &mut events),
                AnswerPart::Reasoning(text) => self.add_text(Kind::Reasoning, &text, &mut events),
                AnswerPart::ToolCall(call) => self.add_call(&call, &mut events),
            }
        }
        events
    }

    fn add_text(&mut self, kind: Kind, text: &str, events: &mut Vec<Value>) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed", events);
            self.begin(kind, events);
        }
        if text.is_empty() {
            return;
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            let mut fields = json!({
                "item_id": open.id, "output_index": self.output.len(), "content_index": 0,
                "delta": text,
            });
            if kind == Kind::Message {
                fields["logprobs"] = json!([]);
            }
            events.push(self.event(&format!("{}.delta", kind.text_events()), fields));
        }
    }

    fn begin(&mut self, kind: Kind, events: &mut Vec<Value>) {
        let id = self.item_id(match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
        });
        let index = self.output.len();
        let item = kind.item(&id, "in_progress", &[]);
        let added = json!({"output_index": index, "item": item});
        events.push(self.event("response.output_item.added", added));
        let part = json!({
            "item_id": id, "output_index": index, "content_index": 0, "part": kind.part(""),
        });
        events.push(self.event("response.content_part.added", part));
        self.open = Some(Item {
            kind,
            id,
            text: String::new(),
        });
    }

    /// Completes the item that text was added to, if there is one.
    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some(Item { kind, id, text }) = self.open.take() else {
            return;
        };
        let index = self.output.len();
        let place = json!({"item_id": id, "output_index": index, "content_index": 0});
        let mut done = place.clone();
        done["text"] = text.as_str().into();
        if kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        events.push(self.event(&format!("{}.done", kind.text_events()), done));
        let part = kind.part(&text);
        let mut done = place;
        done["part"] = part.clone();
        events.push(self.event("response.content_part.done", done));
        self.item_done(kind.item(&id, status, &[part]), events);
    }

    fn item_done(&mut self, item: Value, events: &mut Vec<Value>) {
        let done = json!({"output_index": self.output.len(), "item": item});
        events.push(self.event("response.output_item.done", done));
        self.output.push(item);
    }

    /// A call is complete: it is sent in one delta.
    fn add_call(&mut self, call: &ToolCall, events: &mut Vec<Value>) {
        self.close("completed", events);
        let number = self.calls;
        self.calls += 1;
        let id = self.item_id("fc");
        let index = self.output.len();
        let arguments = call.arguments.to_string();
        let mut item = json!({
            "type": "function_call", "id": id, "call_id": call_id(self.id, number),
            "name": call.name, "arguments": "", "status": "in_progress",
        });
        let added = json!({"output_index": index, "item": item});
        events.push(self.event("response.output_item.added", added));
        let delta = json!({"item_id": id, "output_index": index, "delta": arguments});
        events.push(self.event("response.function_call_arguments.delta", delta));
        let done = json!({
            "item_id": id, "output_index": index, "name": call.name, "arguments": arguments,
        });
        events.push(self.event("response.function_call_arguments.done", done));
        item["arguments"] = arguments.into();
        item["status"] = "completed".into();
        self.item_done(item, events);
    }
}

impl Chunks for ResponsesStream {
    fn open(&mut self) -> Vec<Value> {
        ["response.created", "response.in_progress"]
            .map(|kind| {
                let response = self.response("in_progress");
                self.event(kind, json!({"response": response}))
            })
            .into()
    }

    fn token(&mut self, _: usize, parts: Vec<AnswerPart>, _: Vec<TokenLogprob>) -> Vec<Value> {
        self.add(parts)
    }

    fn finish(&mut self, _: usize, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        self.usage = Some(*figures);
        let mut events = Vec::new();
        let status = match reason {
            FinishReason::Length => "incomplete",
            FinishReason::Stop => "completed",
        };
        if self.open.is_none() && self.output.is_empty() {
            // An empty answer is a message, too.
            self.begin(Kind::Message, &mut events);
        }
        self.close(status, &mut events);
        let mut response = self.response(status);
        if status == "incomplete" {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            response["completed_at"] = unix_seconds().into();
        }
        let kind = format!("response.{status}");
        events.push(self.event(&kind, json!({"response": response})));
        events
    }

    fn is_over(&self) -> bool {
        self.usage.is_some()
    }
}

/// Reasoning tokens are counted as output tokens, not separately.
fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::decode_responses;

    fn request() -> ResponsesRequest {
        let body = json!({"input": "x", "metadata": {"a": "b"}, "tools": [
            {"type": "function", "name": "f"}, {"type": "function", "name": "g"}]});
        decode_responses(body.to_string().as_bytes()).unwrap()
    }

    fn text(text: &str) -> AnswerPart {
        AnswerPart::Content(text.into())
    }

    fn run(pieces: &[AnswerPart], reason: FinishReason) -> Vec<Value> {
        let mut stream = ResponsesStream::new(RequestId(7), "m", &request());
        let mut events = stream.open();
        for piece in pieces {
            events.extend(stream.token(0, vec![piece.clone()], Vec::new()));
        }
        assert!(!stream.is_over());
        let cost = Usage {
            prompt_tokens: 5,
            cached_tokens: 4,
            completion_tokens: 2,
            ..Usage::default()
        };
        events.extend(stream.finish(0, reason, &cost));
        assert!(stream.is_over());
        let numbers: Vec<u64> = events
            .iter()
            .map(|event| event["sequence_number"].as_u64().unwrap())
            .collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
        events
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
        kinds.map(|k| k.trim_start_matches("response.")).collect()
    }

    #[test]
    fn text_comes_in_a_message() {
        let events = run(&[text("Ro"), text("me")], FinishReason::Stop);
        assert_eq!(
            kinds(&events),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ]
        );
        assert_eq!(events[6]["text"], "Rome");
        let response = &events[9]["response"];
        assert_eq!(response["output"][0], events[8]["item"]);
        assert_eq!(response["output"][0]["content"][0]["text"], "Rome");
        assert_eq!(response["metadata"], json!({"a": "b"}));
        assert_eq!(response["store"], false);
        assert_eq!(
            response["usage"],
            json!({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 7})
        );
        assert_eq!(events[0]["response"]["status"], "in_progress");
    }

    #[test]
    fn reasoning_text_and_calls_are_items_of_their_own() {
        let call = |name| AnswerPart::ToolCall(ToolCall::new(name, json!({"x": 1})));
        let parts = [
            AnswerPart::Reasoning("Hm.".into()),
            text("Well."),
            call("f"),
            call("g"),
        ];
        let events = run(&parts, FinishReason::Stop);
        let seen = kinds(&events);
        let count = |kind| seen.iter().filter(|k| **k == kind).count();
        assert_eq!(count("output_item.added"), 4);
        assert_eq!(count("output_item.done"), 4);
        assert_eq!(count("reasoning_text.done"), 1);
        assert_eq!(count("function_call_arguments.delta"), 2);
        let output = &events.last().unwrap()["response"]["output"];
        let types: Vec<&Value> = (0..4).map(|n| &output[n]["type"]).collect();
        assert_eq!(
            types,
            ["reasoning", "message", "function_call", "function_call"]
        );
        assert_eq!(output[0]["content"][0]["text"], "Hm.");
        assert_eq!(
            output[2],
            json!({"type": "function_call", "id": "fc_7_2", "call_id": "000007000", "name": "f",
                "arguments": "{\"x\":1}", "status": "completed"})
        );
        assert_eq!(output[3]["call_id"], "000007001");
        for (index, added) in events
            .iter()
            .filter(|event| event["type"] == "response.output_item.added")
            .enumerate()
        {
            assert_eq!(added["output_index"], index);
            assert_eq!(added["item"]["id"], output[index]["id"]);
        }
    }

    #[test]
    fn an_answer_cut_off_is_incomplete_and_an_empty_one_is_a_message() {
        let events = run(&[text("Ro")], FinishReason::Length);
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        let response = &last["response"];
        assert_eq!(response["status"], "incomplete");
        assert_eq!(
            response["incomplete_details"]["reason"],
            "max_output_tokens"
        );
        assert_eq!(response["output"][0]["status"], "incomplete");
        let events = run(&[], FinishReason::Stop);
        let response = &events.last().unwrap()["response"];
        assert_eq!(response["output"][0]["content"][0]["text"], "");
    }

    #[test]
    fn whole_and_in_pieces_it_is_the_same() {
        let call = ToolCall::new("f", json!({}));
        let mut answer = Answer::new(RequestId(7), "m");
        answer.content = "Well.".into();
        answer.calls = vec![call.clone()];
        let whole = ResponsesStream::new(RequestId(7), "m", &request()).whole(&answer);
        let events = run(
            &[text("We"), text("ll."), AnswerPart::ToolCall(call)],
            FinishReason::Stop,
        );
        assert_eq!(
            whole["output"],
            events.last().unwrap()["response"]["output"]
        );
        assert_eq!(whole["status"], "completed");
    }

    #[test]
    fn a_failure_is_the_responses_end() {
        let mut stream = ResponsesStream::new(RequestId(7), "m", &request());
        _ = stream.open();
        let event = stream.failed("server_error", "the engine is gone");
        assert_eq!(event["type"], "response.failed");
        assert_eq!(event["sequence_number"], 2);
        let response = &event["response"];
        assert_eq!(response["status"], "failed");
        assert_eq!(response["error"]["message"], "the engine is gone");
    }
}
