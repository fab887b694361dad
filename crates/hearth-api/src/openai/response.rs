//! Answers into responses, and the objects that responses and stream chunks consist of.
//! Fields are sent in the order of the structs.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_proto::{Answer, RequestId, TokenLogprob, ToolCall, Usage};
use serde::Serialize;
use serde_json::Value;

use crate::encode::value;
use crate::timings::Timings;

/// Seconds since 1970, for OpenAI's `created`.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[derive(Serialize)]
struct ChatResponse<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: Option<&'a str>,
    system_fingerprint: &'static str,
    choices: Vec<Choice<'a>>,
    usage: UsageBody,
    /// As llama-server reports them.
    timings: Timings,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: MessageBody<'a>,
    finish_reason: &'static str,
    logprobs: Option<Logprobs>,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    role: &'static str,
    content: Option<&'a str>,
    /// Always null: a model refuses in its content.
    refusal: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody>,
}

/// A call in a message or in a chunk.
#[derive(Serialize)]
pub(super) struct CallBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionBody,
    /// Its place among the calls, in a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
}

#[derive(Serialize)]
struct FunctionBody {
    name: String,
    /// As JSON in a text.
    arguments: String,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

#[derive(Clone, Copy, Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

/// The usage in an object of a stream, if requested: null but in the last one.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum StreamUsage {
    NotYet,
    Known(UsageBody),
}

impl From<Option<UsageBody>> for StreamUsage {
    fn from(usage: Option<UsageBody>) -> Self {
        usage.map_or(Self::NotYet, Self::Known)
    }
}

#[derive(Clone, Copy, Serialize)]
struct CompletionTokens {
    reasoning_tokens: u32,
}

/// Identifies what answers besides the model: the same seed gives the same answer.
pub(super) const FINGERPRINT: &str = concat!("hearthd-", env!("CARGO_PKG_VERSION"));

/// Probabilities of tokens.
#[derive(Serialize)]
pub(super) struct Logprobs {
    content: Vec<TokenBody>,
    /// Always null.
    refusal: (),
}

#[derive(Serialize)]
struct TokenBody {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    /// The most likely ones in its place; these have none themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<TokenBody>>,
}

/// The `chat.completion` object, with one choice for each answer.
pub fn chat_response(answers: &[Answer]) -> Value {
    let choice = |(index, answer)| Choice::new(index, answer);
    let all = total(answers.iter().map(|answer| answer.usage));
    value(&ChatResponse {
        id: chat_id(answers.first().map(|answer| answer.id)),
        object: "chat.completion",
        created: unix_seconds(),
        model: answers.first().map(|answer| answer.model.as_str()),
        system_fingerprint: FINGERPRINT,
        choices: answers.iter().enumerate().map(choice).collect(),
        usage: usage(&all),
        timings: Timings::new(&all),
    })
}

impl<'a> Choice<'a> {
    fn new(index: usize, answer: &'a Answer) -> Self {
        let calls = answer.calls.iter().enumerate();
        let has_content = !answer.content.is_empty() || answer.calls.is_empty();
        let wants_logprobs = answer.wants_logprobs || !answer.logprobs.is_empty();
        Self {
            index,
            message: MessageBody {
                role: "assistant",
                content: has_content.then_some(&answer.content),
                refusal: (),
                reasoning_content: Some(answer.reasoning.as_str()).filter(|text| !text.is_empty()),
                tool_calls: calls
                    .map(|(n, call)| tool_call(answer.id, n, call))
                    .collect(),
            },
            finish_reason: answer.reason.with_calls(answer.calls.len()),
            logprobs: wants_logprobs.then(|| logprobs(&answer.logprobs)),
        }
    }
}

/// The id of a response or stream whose first answer is to this request.
pub(super) fn chat_id(first: Option<RequestId>) -> String {
    format!("chatcmpl-{:x}", first.unwrap_or_default())
}

/// The total usage of several candidates, which share their prompt. Its cached tokens are
/// those that the first one found; the others found the first one's.
pub(super) fn total(usages: impl Iterator<Item = Usage>) -> Usage {
    let sum = |a: Usage, b: Usage| Usage {
        prompt_tokens: a.prompt_tokens.max(b.prompt_tokens),
        cached_tokens: a.cached_tokens.min(b.cached_tokens),
        completion_tokens: a.completion_tokens + b.completion_tokens,
        reasoning_tokens: a.reasoning_tokens + b.reasoning_tokens,
        prefill_ms: a.prefill_ms + b.prefill_ms,
        decode_ms: a.decode_ms + b.decode_ms,
    };
    usages.reduce(sum).unwrap_or_default()
}

/// The `n`th call of an answer, counted from 0.
pub(super) fn tool_call(id: RequestId, n: usize, call: &ToolCall) -> CallBody {
    CallBody {
        id: call_id(id, n),
        kind: "function",
        function: FunctionBody {
            name: call.name.clone(),
            arguments: call.arguments.to_string(),
        },
        index: None,
    }
}

/// The id of an answer's `n`th call, counted from 0. Nine letters and digits: Mistral's
/// templates accept no other form. So the run only shifts the number.
pub fn call_id(id: RequestId, n: usize) -> String {
    let shifted = id.number().wrapping_add(id.run().into());
    format!("{:06x}{:03x}", shifted & 0xff_ffff, n & 0xfff)
}

pub(super) fn usage(usage: &Usage) -> UsageBody {
    UsageBody {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details: PromptTokens {
            cached_tokens: usage.cached_tokens,
        },
        completion_tokens_details: CompletionTokens {
            reasoning_tokens: usage.reasoning_tokens,
        },
    }
}

/// The `logprobs` of a choice.
pub(super) fn logprobs(tokens: &[TokenLogprob]) -> Logprobs {
    let entry = |bytes: &[u8], logprob, top_logprobs| TokenBody {
        token: String::from_utf8_lossy(bytes).into_owned(),
        logprob,
        bytes: bytes.to_vec(),
        top_logprobs,
    };
    let token = |token: &TokenLogprob| {
        let top = token.top.iter().map(|(bytes, p)| entry(bytes, *p, None));
        entry(&token.bytes, token.logprob, Some(top.collect()))
    };
    Logprobs {
        content: tokens.iter().map(token).collect(),
        refusal: (),
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::FinishReason;
    use serde_json::json;

    use super::super::{CompletionForm, completion_response};
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer {
            content: text.to_owned(),
            ..Answer::new(RequestId(1), "m")
        }
    }

    #[test]
    fn calls_and_reasoning_have_their_own_fields() {
        let mut answer = answer("");
        answer.reasoning = "Hm.".into();
        answer.calls = vec![
            ToolCall::new("f", json!({"x": 1})),
            ToolCall::new("g", json!({})),
        ];
        let response = chat_response(std::slice::from_ref(&answer));
        let choice = &response["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(
            choice["message"],
            json!({"role": "assistant", "content": null, "refusal": null, "reasoning_content": "Hm.", "tool_calls": [
                {"id": "000001000", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "000001001", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]})
        );
        answer.reason = FinishReason::Length;
        let response = chat_response(std::slice::from_ref(&answer));
        assert_eq!(response["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn several_answers_count_their_prompt_once() {
        let cost = |cached_tokens, completion_tokens| Usage {
            prompt_tokens: 10,
            cached_tokens,
            completion_tokens,
            ..Usage::default()
        };
        let mut answers = [answer("a"), answer("b"), answer("c")];
        for (answer, usage) in answers.iter_mut().zip([cost(9, 1), cost(4, 2), cost(9, 3)]) {
            answer.usage = usage;
        }
        let chat = chat_response(&answers);
        let form = CompletionForm {
            n: 3,
            best_of: 3,
            ..CompletionForm::default()
        };
        let completion = completion_response(&answers, &form);
        for (response, at) in [(&chat, "/message/content"), (&completion, "/text")] {
            for (index, text) in ["a", "b", "c"].into_iter().enumerate() {
                let choice = &response["choices"][index];
                assert_eq!(choice["index"], index);
                assert_eq!(choice.pointer(at), Some(&text.into()));
            }
            assert_eq!(
                response["usage"],
                json!({"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 0}})
            );
        }
    }

    #[test]
    fn logprobs_have_openais_form() {
        let token = TokenLogprob {
            bytes: b"\xc3".to_vec(),
            logprob: -0.5,
            top: vec![(b"a".to_vec(), -0.25)],
            ..TokenLogprob::default()
        };
        assert_eq!(
            value(&logprobs(&[token])),
            json!({"refusal": null, "content": [{
                "token": "\u{fffd}", "logprob": -0.5, "bytes": [0xc3],
                "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}],
            }]})
        );
        let mut answer = answer("a");
        let shown = |answer: &Answer| {
            chat_response(std::slice::from_ref(answer))["choices"][0]["logprobs"].take()
        };
        assert_eq!(shown(&answer), Value::Null);
        answer.wants_logprobs = true;
        assert_eq!(shown(&answer), json!({"content": [], "refusal": null}));
    }
}
