//! Answers into lines of a stream.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Form;
use super::response::{done, tool_call};
use crate::prompt::Part;
use crate::protocol::{CallFormat, FinishReason, RequestId, TokenLogprob, Usage};
use crate::service::Chunks;
use crate::service::openai::{Offer, Reader};

/// Turns the pieces of one answer into objects, each a line.
pub struct OllamaStream {
    form: Form,
    name: String,
    id: RequestId,
    reader: Reader,
    /// The time since the request came.
    elapsed: Box<dyn Fn() -> Duration + Send>,
    is_over: bool,
}

impl fmt::Debug for OllamaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OllamaStream")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl OllamaStream {
    /// A stream for the answer to this request; `elapsed` tells the time since it came.
    pub fn new(
        form: Form,
        name: &str,
        id: RequestId,
        offer: &Offer,
        elapsed: impl Fn() -> Duration + Send + 'static,
    ) -> Self {
        Self {
            form,
            name: name.to_owned(),
            id,
            reader: Reader::new(offer.clone()),
            elapsed: Box::new(elapsed),
            is_over: false,
        }
    }

    fn lines(&self, parts: Vec<(usize, Part)>) -> Vec<Value> {
        let line = |content: &str, thinking: &str, calls: &[Value]| {
            self.form.part(&self.name, content, thinking, calls)
        };
        let lines = parts.into_iter().map(|(number, part)| match part {
            Part::Content(text) => line(&text, "", &[]),
            Part::Reasoning(text) => line("", &text, &[]),
            Part::ToolCall(call) => line("", "", &[tool_call(self.id, number, &call)]),
        });
        lines.collect()
    }
}

impl Chunks for OllamaStream {
    fn start(&mut self, _: usize, call_format: CallFormat, in_reasoning: bool) {
        self.reader.start(call_format, in_reasoning);
    }

    fn token(&mut self, _: usize, text: &str, _: Vec<TokenLogprob>) -> Vec<Value> {
        let parts = self.reader.push(text);
        self.lines(parts)
    }

    fn finish(&mut self, _: usize, reason: FinishReason, usage: &Usage) -> Vec<Value> {
        self.is_over = true;
        let parts = self.reader.finish();
        let mut lines = self.lines(parts);
        let last = self.form.part(&self.name, "", "", &[]);
        lines.push(done(last, reason.as_str(), usage, (self.elapsed)()));
        lines
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(form: Form, pieces: &[&str]) -> Vec<Value> {
        let offer = Offer {
            names: vec!["f".into(), "g".into()],
            one_call: false,
        };
        let id = RequestId(7);
        let mut stream = OllamaStream::new(form, "m", id, &offer, || Duration::from_secs(1));
        stream.start(0, CallFormat::Hermes, true);
        let mut lines: Vec<Value> = pieces
            .iter()
            .flat_map(|piece| stream.token(0, piece, Vec::new()))
            .collect();
        assert!(!stream.is_over());
        lines.extend(stream.finish(0, FinishReason::Stop, &Usage::default()));
        assert!(stream.is_over());
        lines
    }

    #[test]
    fn thoughts_text_and_calls_are_lines_of_their_own() {
        let pieces = [
            "Hm.</think>",
            "Yes.",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>",
            "<tool_call>{\"name\": \"g\"}</tool_call>",
        ];
        let lines = run(Form::Chat, &pieces);
        let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
        let call = |n: u32, name: &str, arguments: Value| {
            json!({"role": "assistant", "content": "", "tool_calls": [{"id": format!("00000700{n}"),
                "function": {"index": n, "name": name, "arguments": arguments}}]})
        };
        assert_eq!(
            messages,
            [
                &json!({"role": "assistant", "content": "", "thinking": "Hm."}),
                &json!({"role": "assistant", "content": "Yes."}),
                &call(0, "f", json!({"x": 1})),
                &call(1, "g", json!({})),
                &json!({"role": "assistant", "content": ""}),
            ]
        );
        let done: Vec<bool> = lines.iter().map(|line| line["done"] == true).collect();
        assert_eq!(done, [false, false, false, false, true]);
        let last = &lines[4];
        assert_eq!(
            (&last["done_reason"], &last["total_duration"]),
            (&json!("stop"), &json!(1_000_000_000))
        );
    }

    #[test]
    fn generated_text_stands_alone() {
        let lines = run(Form::Generate, &["Hm.</think>", "Y", "es."]);
        let text: String = lines
            .iter()
            .filter_map(|l| l["response"].as_str())
            .collect();
        let thoughts: String = lines
            .iter()
            .filter_map(|l| l["thinking"].as_str())
            .collect();
        assert_eq!((text.as_str(), thoughts.as_str()), ("Yes.", "Hm."));
        assert!(lines.iter().all(|line| line["message"].is_null()));
    }
}
