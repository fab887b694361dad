//! Answers into responses and stream chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::prompt::tools::{self, OPEN, ToolCall};
use crate::protocol::{FinishReason, RequestId, Usage};
use crate::service::Answer;

/// Seconds since 1970, as OpenAI's `created` wants it.
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The `chat.completion` object.
pub fn chat_response(id: RequestId, answer: &Answer, has_tools: bool) -> Value {
    let (text, calls) = if has_tools {
        tools::split(&answer.text)
    } else {
        (answer.text.clone(), Vec::new())
    };
    let mut message = json!({"role": "assistant", "content": text});
    let mut reason = answer.reason.as_str();
    if !calls.is_empty() {
        let list: Vec<Value> = (0..)
            .zip(&calls)
            .map(|(n, call)| tool_call(id, n, call))
            .collect();
        message["tool_calls"] = list.into();
        reason = "tool_calls";
    }
    json!({
        "id": format!("chatcmpl-{id}"),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": null}],
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

fn tool_call(id: RequestId, n: u32, call: &ToolCall) -> Value {
    json!({
        "id": format!("call_{id}_{n}"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

/// Turns an answer's pieces into `chat.completion.chunk` objects.
#[derive(Debug)]
pub struct ChatStream {
    id: RequestId,
    model: String,
    created: u64,
    has_tools: bool,
    include_usage: bool,
    begun: bool,
    /// Text that may belong to a tool call and is kept until the end.
    held: String,
}

impl ChatStream {
    /// A stream for one answer.
    pub fn new(id: RequestId, model: &str, has_tools: bool, include_usage: bool) -> Self {
        Self {
            id,
            model: model.to_owned(),
            created: unix_seconds(),
            has_tools,
            include_usage,
            begun: false,
            held: String::new(),
        }
    }

    /// Chunks for more text.
    pub fn text(&mut self, text: &str) -> Vec<Value> {
        let safe = if self.has_tools {
            self.hold(text)
        } else {
            text.to_owned()
        };
        if safe.is_empty() && self.begun {
            return Vec::new();
        }
        vec![self.delta(json!({"content": safe}))]
    }

    /// The chunks that end the answer. The last delta is empty: clients drop the
    /// content of a chunk with a `finish_reason`.
    pub fn finish(&mut self, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let mut chunks = Vec::new();
        let (rest, calls) = tools::split(&std::mem::take(&mut self.held));
        if !rest.is_empty() || !self.begun {
            chunks.push(self.delta(json!({"content": rest})));
        }
        for (n, call) in (0u32..).zip(&calls) {
            let mut call = tool_call(self.id, n, call);
            call["index"] = n.into();
            chunks.push(self.delta(json!({"tool_calls": [call]})));
        }
        let reason = if calls.is_empty() {
            reason.as_str()
        } else {
            "tool_calls"
        };
        chunks.push(self.chunk(&json!([{"index": 0, "delta": {}, "finish_reason": reason}])));
        if self.include_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(figures);
            chunks.push(chunk);
        }
        chunks
    }

    /// Keeps text back from the first sign of a tool call on.
    fn hold(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let keep_from = self.held.find(OPEN).unwrap_or_else(|| {
            let begins = (1..OPEN.len())
                .rev()
                .find(|n| self.held.ends_with(&OPEN[..*n]));
            self.held.len() - begins.unwrap_or(0)
        });
        let held = self.held.split_off(keep_from);
        std::mem::replace(&mut self.held, held)
    }

    fn delta(&mut self, mut delta: Value) -> Value {
        if !self.begun {
            self.begun = true;
            delta["role"] = "assistant".into();
        }
        self.chunk(&json!([{"index": 0, "delta": delta, "finish_reason": null}]))
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.id),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(has_tools: bool, pieces: &[&str]) -> Vec<Value> {
        let mut stream = ChatStream::new(RequestId(7), "m", has_tools, true);
        let mut chunks: Vec<Value> = pieces.iter().flat_map(|p| stream.text(p)).collect();
        chunks.extend(stream.finish(FinishReason::Stop, &Usage::default()));
        chunks
    }

    #[test]
    fn text_comes_at_once_and_the_last_delta_is_empty() {
        let chunks = stream(false, &["Ro", "me"]);
        assert_eq!(
            chunks[0]["choices"][0]["delta"],
            json!({"content": "Ro", "role": "assistant"})
        );
        assert_eq!(chunks[1]["choices"][0]["delta"], json!({"content": "me"}));
        assert_eq!(
            chunks[2]["choices"][0],
            json!({"index": 0, "delta": {}, "finish_reason": "stop"})
        );
        assert_eq!(chunks[3]["usage"]["total_tokens"], 0);
    }

    #[test]
    fn a_tool_call_is_held_back_and_sent_whole() {
        let chunks = stream(
            true,
            &[
                "Ok <",
                "b> <tool",
                "_call>{\"name\": \"f\", ",
                "\"arguments\": {\"x\": 1}}</tool_call>",
            ],
        );
        let text: String = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Ok <b> ");
        let calls: Vec<&Value> = chunks
            .iter()
            .filter(|c| !c["choices"][0]["delta"]["tool_calls"].is_null())
            .collect();
        let call = &calls[0]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!(
            (&call["index"], &call["function"]["name"]),
            (&json!(0), &json!("f"))
        );
        assert_eq!(call["function"]["arguments"], json!("{\"x\":1}"));
        assert_eq!(
            chunks[chunks.len() - 2]["choices"][0]["finish_reason"],
            "tool_calls"
        );
    }

    #[test]
    fn a_plain_answer_with_a_call() {
        let answer = Answer {
            text: "<tool_call>{\"name\": \"f\"}</tool_call>".into(),
            reason: FinishReason::Stop,
            usage: Usage::default(),
            model: "m".into(),
        };
        let with = chat_response(RequestId(1), &answer, true);
        assert_eq!(with["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(with["choices"][0]["message"]["content"], "");
        let without = chat_response(RequestId(1), &answer, false);
        assert_eq!(without["choices"][0]["message"]["content"], answer.text);
    }
}
