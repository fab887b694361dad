//! Answers into lines of a stream.

use std::fmt;
use std::time::Duration;

use hearth_proto::{AnswerPart, FinishReason, RequestId, TokenLogprob, Usage};
use serde_json::Value;

use super::Form;
use super::response::{End, Part, tool_call};
use crate::Chunks;

/// Encodes the parts of one answer as objects, one per line.
pub struct OllamaStream {
    form: Form,
    name: String,
    id: RequestId,
    /// Calls so far.
    calls: usize,
    /// Probabilities of tokens that have completed no part yet.
    logprobs: Vec<TokenLogprob>,
    /// The time since the request arrived.
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
    /// A stream for the answer to this request; `elapsed` returns the time since it
    /// arrived.
    pub fn new(
        form: Form,
        name: &str,
        id: RequestId,
        elapsed: impl Fn() -> Duration + Send + 'static,
    ) -> Self {
        Self {
            form,
            name: name.to_owned(),
            id,
            calls: 0,
            logprobs: Vec::new(),
            elapsed: Box::new(elapsed),
            is_over: false,
        }
    }

    fn line(&mut self, part: &AnswerPart) -> Value {
        let call;
        let logprobs = std::mem::take(&mut self.logprobs);
        let mut shown = Part {
            logprobs: &logprobs,
            ..Part::default()
        };
        match part {
            AnswerPart::Content(text) => shown.content = text,
            AnswerPart::Reasoning(text) => shown.thinking = text,
            AnswerPart::ToolCall(made) => {
                call = [tool_call(self.id, self.calls, made)];
                shown.calls = &call;
                self.calls += 1;
            }
        }
        self.form.line(&self.name, shown, None)
    }
}

impl Chunks for OllamaStream {
    fn token(
        &mut self,
        _: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value> {
        self.logprobs.extend(logprobs);
        parts.iter().map(|part| self.line(part)).collect()
    }

    fn finish(&mut self, _: usize, reason: FinishReason, usage: &Usage) -> Vec<Value> {
        self.is_over = true;
        let end = End::new(reason, usage, (self.elapsed)());
        let logprobs = std::mem::take(&mut self.logprobs);
        let rest = Part {
            logprobs: &logprobs,
            ..Part::default()
        };
        vec![self.form.line(&self.name, rest, Some(end))]
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::ToolCall;
    use serde_json::json;

    use super::*;

    fn run(form: Form, pieces: &[AnswerPart]) -> Vec<Value> {
        let id = RequestId(7);
        let mut stream = OllamaStream::new(form, "m", id, || Duration::from_secs(1));
        let mut lines: Vec<Value> = pieces
            .iter()
            .flat_map(|piece| stream.token(0, vec![piece.clone()], Vec::new()))
            .collect();
        assert!(!stream.is_over());
        lines.extend(stream.finish(0, FinishReason::Stop, &Usage::default()));
        assert!(stream.is_over());
        lines
    }

    #[test]
    fn reasoning_text_and_calls_are_separate_lines() {
        let pieces = [
            AnswerPart::Reasoning("Hm.".into()),
            AnswerPart::Content("Yes.".into()),
            AnswerPart::ToolCall(ToolCall::new("f", json!({"x": 1}))),
            AnswerPart::ToolCall(ToolCall::new("g", json!({}))),
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
    fn every_logprob_is_in_one_line() {
        let mut stream = OllamaStream::new(Form::Chat, "m", RequestId(7), || Duration::ZERO);
        let of = |byte: u8| TokenLogprob {
            bytes: vec![byte],
            logprob: -1.0,
            ..TokenLogprob::default()
        };
        let text = |text: &str| vec![AnswerPart::Content(text.into())];
        let mut lines = stream.token(0, Vec::new(), vec![of(b'a')]);
        assert!(lines.is_empty(), "a token that completes no text");
        lines.extend(stream.token(0, text("ab"), vec![of(b'b')]));
        lines.extend(stream.token(0, text("c"), vec![of(b'c')]));
        lines.extend(stream.token(0, Vec::new(), vec![of(b'd')]));
        lines.extend(stream.finish(0, FinishReason::Stop, &Usage::default()));
        let names = |line: &Value| -> String {
            let all = line["logprobs"].as_array().unwrap().iter();
            all.filter_map(|token| token["token"].as_str()).collect()
        };
        assert_eq!(
            lines.iter().map(names).collect::<Vec<_>>(),
            ["ab", "c", "d"]
        );
    }

    #[test]
    fn generate_streams_text_lines() {
        let lines = run(
            Form::Generate,
            &[
                AnswerPart::Reasoning("Hm.".into()),
                AnswerPart::Content("Y".into()),
                AnswerPart::Content("es.".into()),
            ],
        );
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
