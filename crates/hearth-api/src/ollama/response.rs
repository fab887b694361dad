//! Answers into responses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_proto::{Answer, FinishReason, RequestId, TokenLogprob, ToolCall, Usage};
use serde::Serialize;
use serde_json::Value;

use super::logprobs::{LogprobBody, bodies};
use crate::date::civil;
use crate::encode::value;
use crate::openai::call_id;

/// The endpoint whose objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`: the text is in a `message`.
    Chat,
    /// `/api/generate`: the text is the `response`.
    Generate,
}

/// A part of an answer, or a complete one. Fields are sent in this order.
#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(flatten)]
    answer: AnswerFields<'a>,
    done: bool,
    #[serde(flatten)]
    end: Option<End<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    logprobs: Vec<LogprobBody>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerFields<'a> {
    Chat {
        message: MessageBody<'a>,
    },
    Generate {
        response: &'a str,
        #[serde(flatten)]
        more: MoreFields<'a>,
    },
}

#[derive(Serialize)]
struct MessageBody<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(flatten)]
    more: MoreFields<'a>,
}

/// What an answer may have besides its text.
#[derive(Serialize)]
struct MoreFields<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [CallBody],
}

#[derive(Serialize)]
pub(super) struct CallBody {
    id: String,
    function: FunctionBody,
}

#[derive(Serialize)]
struct FunctionBody {
    index: usize,
    name: String,
    arguments: Value,
}

/// What the last line has. Durations are in nanoseconds.
#[derive(Serialize)]
pub(super) struct End<'a> {
    done_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u64>,
    #[serde(flatten)]
    usage: Option<UsageBody>,
}

#[derive(Serialize)]
struct UsageBody {
    prompt_eval_count: u32,
    prompt_eval_duration: u64,
    eval_count: u32,
    eval_duration: u64,
}

/// What a part of an answer consists of.
#[derive(Clone, Copy, Default)]
pub(super) struct Part<'a> {
    pub content: &'a str,
    pub thinking: &'a str,
    pub calls: &'a [CallBody],
    pub logprobs: &'a [TokenLogprob],
}

impl Form {
    /// A part of an answer of the model with this name for the client; `end` makes it the
    /// last one.
    pub(super) fn line(self, model: &str, part: Part<'_>, end: Option<End<'_>>) -> Value {
        let more = MoreFields {
            thinking: part.thinking,
            tool_calls: part.calls,
        };
        value(&Line {
            model,
            created_at: timestamp(SystemTime::now()),
            answer: match self {
                Self::Chat => AnswerFields::Chat {
                    message: MessageBody {
                        role: "assistant",
                        content: part.content,
                        more,
                    },
                },
                Self::Generate => AnswerFields::Generate {
                    response: part.content,
                    more,
                },
            },
            done: end.is_some(),
            end,
            logprobs: bodies(part.logprobs),
        })
    }

    /// A complete answer; `took` is its total time.
    pub fn response(self, name: &str, answer: &Answer, took: Duration) -> Value {
        let calls = answer.calls.iter().enumerate();
        let calls: Vec<CallBody> = calls
            .map(|(n, call)| tool_call(answer.id, n, call))
            .collect();
        let part = Part {
            content: &answer.content,
            thinking: &answer.reasoning,
            calls: &calls,
            logprobs: &answer.logprobs,
        };
        self.line(
            name,
            part,
            Some(End::new(answer.reason, &answer.usage, took)),
        )
    }

    /// The response to a request without a prompt: the model was loaded or unloaded.
    pub fn nothing(self, name: &str, reason: &str, took: Duration) -> Value {
        let took = (reason == "load").then(|| nanoseconds(took));
        let end = End {
            done_reason: reason,
            total_duration: took,
            load_duration: took,
            usage: None,
        };
        self.line(name, Part::default(), Some(end))
    }
}

impl End<'_> {
    /// The end of an answer. The loading time is not known and left out; Ollama has no
    /// reason of its own for a call.
    pub(super) fn new(reason: FinishReason, usage: &Usage, took: Duration) -> Self {
        let ms =
            |ms: f64| nanoseconds(Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default());
        Self {
            done_reason: reason.as_str(),
            total_duration: Some(nanoseconds(took)),
            load_duration: None,
            usage: Some(UsageBody {
                prompt_eval_count: usage.prompt_tokens,
                prompt_eval_duration: ms(usage.prefill_ms),
                eval_count: usage.completion_tokens,
                eval_duration: ms(usage.decode_ms),
            }),
        }
    }
}

/// The `n`th call of an answer, counted from 0.
pub(super) fn tool_call(id: RequestId, n: usize, call: &ToolCall) -> CallBody {
    CallBody {
        id: call_id(id, n),
        function: FunctionBody {
            index: n,
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        },
    }
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
    use serde_json::json;

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
            ..Usage::default()
        };
        answer
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |s, ns| timestamp(UNIX_EPOCH + Duration::new(s, ns));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(1_795_440_845, 7_654_321), "2026-11-23T13:34:05.007654Z");
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(timestamp(before), at(0, 0));
    }

    #[test]
    fn a_chat_answer_has_ollamas_fields() {
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
    fn an_empty_request_is_answered_with_done() {
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
