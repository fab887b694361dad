//! Answers into responses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_proto::{Answer, RequestId, ToolCall, Usage};
use serde_json::{Value, json};

use crate::date::civil;
use crate::openai::call_id;

/// The endpoint whose objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`: the text is in a `message`.
    Chat,
    /// `/api/generate`: the text is the `response`.
    Generate,
}

impl Form {
    /// A part of an answer; the parts of a model's answer carry its `name`.
    pub(super) fn part(self, name: &str, content: &str, thinking: &str, calls: &[Value]) -> Value {
        let mut fields = match self {
            Self::Chat => json!({"role": "assistant", "content": content}),
            Self::Generate => json!({"response": content}),
        };
        if !thinking.is_empty() {
            fields["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            fields["tool_calls"] = calls.into();
        }
        let mut part = json!({"model": name, "created_at": timestamp(SystemTime::now())});
        match self {
            Self::Chat => part["message"] = fields,
            Self::Generate => {
                if let (Value::Object(part), Value::Object(fields)) = (&mut part, fields) {
                    part.extend(fields);
                }
            }
        }
        part["done"] = false.into();
        part
    }

    /// A complete answer; `took` is its total time.
    pub fn response(self, name: &str, answer: &Answer, took: Duration) -> Value {
        let calls = answer.calls.iter().enumerate();
        let calls: Vec<Value> = calls
            .map(|(n, call)| tool_call(answer.id, n, call))
            .collect();
        let part = self.part(name, &answer.content, &answer.reasoning, &calls);
        // Ollama has no end reason for a call.
        done(part, answer.reason.as_str(), &answer.usage, took)
    }

    /// The response to a request without a prompt: the model was loaded or unloaded.
    pub fn nothing(self, name: &str, reason: &str, took: Duration) -> Value {
        let mut part = self.part(name, "", "", &[]);
        part["done"] = true.into();
        part["done_reason"] = reason.into();
        if reason == "load" {
            part["total_duration"] = nanoseconds(took).into();
            part["load_duration"] = nanoseconds(took).into();
        }
        part
    }
}

/// Makes a part the last one. The loading time is not known and left out.
pub(super) fn done(mut part: Value, reason: &str, usage: &Usage, took: Duration) -> Value {
    let ms = |ms: f64| nanoseconds(Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default());
    part["done"] = true.into();
    part["done_reason"] = reason.into();
    part["total_duration"] = nanoseconds(took).into();
    part["prompt_eval_count"] = usage.prompt_tokens.into();
    part["prompt_eval_duration"] = ms(usage.prefill_ms).into();
    part["eval_count"] = usage.completion_tokens.into();
    part["eval_duration"] = ms(usage.decode_ms).into();
    part
}

/// The `n`th call of an answer, counted from 0.
pub(super) fn tool_call(id: RequestId, n: usize, call: &ToolCall) -> Value {
    json!({
        "id": call_id(id, n),
        "function": {"index": n, "name": call.name, "arguments": call.arguments},
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time in RFC 3339 form, in UTC.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(i64::try_from(seconds / 86_400).unwrap_or(0));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use hearth_proto::FinishReason;

    use super::*;

    fn answer(calls: Vec<ToolCall>) -> Answer {
        let mut answer = Answer::new(RequestId(7), "m");
        answer.content = "Yes.".into();
        answer.reasoning = "Hm.".into();
        answer.calls = calls;
        answer.reason = FinishReason::Length;
        answer.usage = Usage {
            prompt_tokens: 20,
            cached_tokens: 5,
            completion_tokens: 3,
            prefill_ms: 1.5,
            decode_ms: 0.25,
        };
        answer
    }

    #[test]
    fn times() {
        let at = |s, ns| timestamp(UNIX_EPOCH + Duration::new(s, ns));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(1_795_440_845, 7_654_321), "2026-11-23T13:34:05.007654Z");
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(timestamp(before), at(0, 0));
    }

    #[test]
    fn a_chat_answer() {
        let call = ToolCall::new("f", json!({"x": 1}));
        let took = Duration::from_millis(2);
        let mut chat = Form::Chat.response("m:latest", &answer(vec![call]), took);
        assert!(chat["created_at"].take().is_string());
        assert_eq!(
            chat,
            json!({
                "model": "m:latest", "created_at": null, "done": true, "done_reason": "length",
                "message": {"role": "assistant", "content": "Yes.", "thinking": "Hm.", "tool_calls":
                    [{"id": "000007000", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}]},
                "total_duration": 2_000_000, "prompt_eval_count": 20, "eval_count": 3,
                "prompt_eval_duration": 1_500_000, "eval_duration": 250_000,
            })
        );
        let generated = Form::Generate.response("m", &answer(Vec::new()), took);
        assert_eq!(
            (&generated["response"], &generated["thinking"]),
            (&json!("Yes."), &json!("Hm."))
        );
        assert!(generated["message"].is_null());
    }

    #[test]
    fn nothing_was_asked() {
        let took = Duration::from_secs(1);
        let loaded = Form::Chat.nothing("m", "load", took);
        assert_eq!(loaded["message"]["content"], "");
        assert_eq!(
            (&loaded["done"], &loaded["load_duration"]),
            (&json!(true), &json!(1_000_000_000))
        );
        let gone = Form::Generate.nothing("m", "unload", took);
        assert_eq!(
            (&gone["response"], &gone["done_reason"]),
            (&json!(""), &json!("unload"))
        );
        assert!(gone["total_duration"].is_null());
    }
}
