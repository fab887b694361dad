//! Answers into responses and stream chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_proto::{Answer, RequestId, TokenLogprob, ToolCall, Usage};
use serde_json::{Value, json};

/// Seconds since 1970, for OpenAI's `created`.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The `chat.completion` object, with one choice for each answer.
pub fn chat_response(answers: &[Answer]) -> Value {
    let choice = |(index, answer)| choice(index, answer);
    json!({
        "id": chat_id(answers.first().map(|answer| answer.id)),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": answers.first().map(|answer| answer.model.as_str()),
        "choices": answers.iter().enumerate().map(choice).collect::<Value>(),
        "usage": usage(&total(answers.iter().map(|answer| answer.usage))),
    })
}

fn choice(index: usize, answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.content});
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = answer.reasoning.as_str().into();
    }
    if !answer.calls.is_empty() {
        if answer.content.is_empty() {
            message["content"] = Value::Null;
        }
        let calls = answer.calls.iter().enumerate();
        message["tool_calls"] = calls
            .map(|(n, call)| tool_call(answer.id, n, call))
            .collect();
    }
    json!({
        "index": index,
        "message": message,
        "finish_reason": answer.reason.with_calls(answer.calls.len()),
        "logprobs": match logprobs(&answer.logprobs) {
            Value::Null if answer.wants_logprobs => json!({"content": [], "refusal": null}),
            some => some,
        },
    })
}

/// The id of a response or stream whose first answer is to this request.
pub(super) fn chat_id(first: Option<RequestId>) -> String {
    format!("chatcmpl-{}", first.unwrap_or_default())
}

/// The total usage of several candidates, which share their prompt. Its cached tokens are
/// those that the first one found; the others found the first one's.
pub(super) fn total(usages: impl Iterator<Item = Usage>) -> Usage {
    let sum = |a: Usage, b: Usage| Usage {
        prompt_tokens: a.prompt_tokens.max(b.prompt_tokens),
        cached_tokens: a.cached_tokens.min(b.cached_tokens),
        completion_tokens: a.completion_tokens + b.completion_tokens,
        prefill_ms: a.prefill_ms + b.prefill_ms,
        decode_ms: a.decode_ms + b.decode_ms,
    };
    usages.reduce(sum).unwrap_or_default()
}

/// The `n`th call of an answer, counted from 0.
pub(super) fn tool_call(id: RequestId, n: usize, call: &ToolCall) -> Value {
    json!({
        "id": call_id(id, n),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

/// The id of an answer's `n`th call, counted from 0. Nine letters and digits: Mistral's
/// templates accept no other form.
pub fn call_id(id: RequestId, n: usize) -> String {
    format!("{:06x}{:03x}", id.0 & 0xff_ffff, n & 0xfff)
}

pub(super) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

/// The `logprobs` of a choice; null where there are none.
pub(super) fn logprobs(tokens: &[TokenLogprob]) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let entry = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes});
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let top = token
                .top
                .iter()
                .map(|(bytes, logprob)| entry(bytes, *logprob));
            let mut value = entry(&token.bytes, token.logprob);
            value["top_logprobs"] = top.collect();
            value
        })
        .collect();
    json!({"content": content, "refusal": null})
}

#[cfg(test)]
mod tests {
    use hearth_proto::FinishReason;

    use super::super::completion_response;
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer {
            content: text.to_owned(),
            ..Answer::new(RequestId(1), "m")
        }
    }

    #[test]
    fn calls_and_reasoning_have_fields_of_their_own() {
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
            json!({"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [
                {"id": "000001000", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "000001001", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]})
        );
        answer.reason = FinishReason::Length;
        let response = chat_response(std::slice::from_ref(&answer));
        assert_eq!(response["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn several_answers_share_their_prompt() {
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
        let completion = completion_response(&answers);
        for (response, at) in [(&chat, "/message/content"), (&completion, "/text")] {
            for (index, text) in ["a", "b", "c"].into_iter().enumerate() {
                let choice = &response["choices"][index];
                assert_eq!(choice["index"], index);
                assert_eq!(choice.pointer(at), Some(&text.into()));
            }
            assert_eq!(
                response["usage"],
                json!({"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16,
                    "prompt_tokens_details": {"cached_tokens": 4}})
            );
        }
    }

    #[test]
    fn probabilities_in_openais_form() {
        let token = TokenLogprob {
            bytes: b"\xc3".to_vec(),
            logprob: -0.5,
            top: vec![(b"a".to_vec(), -0.25)],
        };
        assert_eq!(
            logprobs(&[token]),
            json!({"refusal": null, "content": [{
                "token": "\u{fffd}", "logprob": -0.5, "bytes": [0xc3],
                "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}],
            }]})
        );
        assert_eq!(logprobs(&[]), Value::Null);
    }
}
