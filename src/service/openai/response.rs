//! Answers into responses and stream chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Offer;
use crate::prompt::{AnswerParser, Part, ToolCall};
use crate::protocol::{RequestId, TokenLogprob, Usage};
use crate::service::Answer;

/// Seconds since 1970, as OpenAI's `created` wants it.
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The `chat.completion` object.
pub fn chat_response(id: RequestId, answer: &Answer, offer: &Offer) -> Value {
    let mut text = String::new();
    let mut reasoning = String::new();
    let mut calls = Vec::new();
    let reading = offer.reading(answer.call_format, answer.in_reasoning);
    for part in AnswerParser::read(reading, &answer.text) {
        match part {
            Part::Content(more) => text.push_str(&more),
            Part::Reasoning(more) => reasoning.push_str(&more),
            Part::ToolCall(call) if offer.takes(calls.len()) => {
                calls.push(tool_call(id, calls.len(), &call));
            }
            Part::ToolCall(_) => {}
        }
    }
    let mut message = json!({"role": "assistant", "content": text});
    if !reasoning.is_empty() {
        message["reasoning_content"] = reasoning.into();
    }
    let mut reason = answer.reason.as_str();
    if !calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.into();
        reason = "tool_calls";
    }
    let logprobs = logprobs(&answer.logprobs);
    json!({
        "id": format!("chatcmpl-{id}"),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": logprobs}],
        "usage": usage(&answer.usage),
    })
}

/// The `text_completion` object.
pub fn completion_response(id: RequestId, answer: &Answer) -> Value {
    json!({
        "id": format!("cmpl-{id}"),
        "object": "text_completion",
        "created": unix_seconds(),
        "model": answer.model,
        "choices": [{"index": 0, "text": answer.text, "finish_reason": answer.reason.as_str(), "logprobs": null}],
        "usage": usage(&answer.usage),
    })
}

/// The `n`th call of an answer, counted from 0.
pub(super) fn tool_call(id: RequestId, n: usize, call: &ToolCall) -> Value {
    json!({
        "id": call_id(id, n),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

/// Nine letters and digits: Mistral's templates take no other.
fn call_id(id: RequestId, n: usize) -> String {
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
    use super::*;
    use crate::protocol::{CallFormat, FinishReason};

    fn answer(text: &str) -> Answer {
        Answer {
            text: text.to_owned(),
            ..Answer::new("m")
        }
    }

    fn offer(one_call: bool) -> Offer {
        Offer {
            names: vec!["f".to_owned(), "g".to_owned()],
            one_call,
        }
    }

    #[test]
    fn calls_and_reasoning_leave_the_text() {
        let mut answer = answer(
            "Hm.</think>\n<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>\
             <tool_call>{\"name\": \"g\"}</tool_call>",
        );
        answer.in_reasoning = true;
        let response = chat_response(RequestId(1), &answer, &offer(false));
        let choice = &response["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(
            choice["message"],
            json!({"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [
                {"id": "000001000", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "000001001", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]})
        );
        let one = chat_response(RequestId(1), &answer, &offer(true));
        let calls = one["choices"][0]["message"]["tool_calls"].as_array();
        assert_eq!(calls.map(Vec::len), Some(1));
    }

    #[test]
    fn the_models_form_and_the_offer_decide_what_is_a_call() {
        let mut answer = answer("{\"name\": \"f\", \"parameters\": {}}");
        answer.reason = FinishReason::Length;
        for (format, offer, reason) in [
            (CallFormat::Llama, offer(false), "tool_calls"),
            (CallFormat::Hermes, offer(false), "length"),
            (CallFormat::Llama, Offer::default(), "length"),
        ] {
            answer.call_format = format;
            let response = chat_response(RequestId(1), &answer, &offer);
            let choice = &response["choices"][0];
            assert_eq!(choice["finish_reason"], reason, "{format:?}");
            if reason == "length" {
                assert_eq!(
                    choice["message"],
                    json!({"role": "assistant", "content": answer.text})
                );
            }
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
