//! Answers into stream chunks.

use std::mem;

use serde_json::{Value, json};

use super::Offer;
use super::response::{logprobs, tool_call, unix_seconds, usage};
use crate::prompt::{AnswerParser, Part};
use crate::protocol::{CallFormat, FinishReason, RequestId, TokenLogprob, Usage};

/// Turns an answer's pieces into `chat.completion.chunk` objects.
#[derive(Debug)]
pub struct ChatStream {
    id: RequestId,
    model: String,
    created: u64,
    offer: Offer,
    include_usage: bool,
    parser: AnswerParser,
    /// A chunk was made.
    begun: bool,
    /// Calls so far.
    calls: usize,
    /// Probabilities of tokens whose text is still held back.
    logprobs: Vec<TokenLogprob>,
}

impl ChatStream {
    /// A stream for one answer.
    pub fn new(id: RequestId, model: &str, offer: Offer, include_usage: bool) -> Self {
        Self {
            id,
            model: model.to_owned(),
            created: unix_seconds(),
            parser: AnswerParser::new(offer.reading(CallFormat::default(), false)),
            offer,
            include_usage,
            begun: false,
            calls: 0,
            logprobs: Vec::new(),
        }
    }

    /// Tells how the model answers, before its first token.
    pub fn start(&mut self, call_format: CallFormat, in_reasoning: bool) {
        self.parser = AnswerParser::new(self.offer.reading(call_format, in_reasoning));
    }

    /// Chunks for more text.
    pub fn token(&mut self, text: &str, logprobs: Vec<TokenLogprob>) -> Vec<Value> {
        self.logprobs.extend(logprobs);
        let parts = self.parser.push(text);
        let mut chunks = self.chunks(parts);
        if !self.begun {
            chunks.push(self.delta(json!({"content": ""})));
        }
        chunks
    }

    /// The chunks that end the answer. The last delta is empty: clients drop the
    /// content of a chunk with a `finish_reason`.
    pub fn finish(&mut self, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let parts = self.parser.finish();
        let mut chunks = self.chunks(parts);
        if !self.begun {
            chunks.push(self.delta(json!({"content": ""})));
        }
        let reason = if self.calls == 0 {
            reason.as_str()
        } else {
            "tool_calls"
        };
        chunks.push(self.choice(&json!({}), Some(reason)));
        if self.include_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(figures);
            chunks.push(chunk);
        }
        chunks
    }

    fn chunks(&mut self, parts: Vec<Part>) -> Vec<Value> {
        let mut chunks = Vec::new();
        for part in parts {
            let delta = match part {
                Part::Content(text) => json!({"content": text}),
                Part::Reasoning(text) => json!({"reasoning_content": text}),
                Part::ToolCall(_) if !self.offer.takes(self.calls) => continue,
                Part::ToolCall(call) => {
                    let mut call = tool_call(self.id, self.calls, &call);
                    call["index"] = self.calls.into();
                    self.calls += 1;
                    json!({"tool_calls": [call]})
                }
            };
            chunks.push(self.delta(delta));
        }
        chunks
    }

    fn delta(&mut self, mut delta: Value) -> Value {
        if !self.begun {
            self.begun = true;
            delta["role"] = "assistant".into();
        }
        self.choice(&delta, None)
    }

    fn choice(&mut self, delta: &Value, finish_reason: Option<&str>) -> Value {
        let mut choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        if !self.logprobs.is_empty() {
            choice["logprobs"] = logprobs(&mem::take(&mut self.logprobs));
        }
        self.chunk(&json!([choice]))
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

    fn offer(names: &[&str]) -> Offer {
        Offer {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            one_call: false,
        }
    }

    fn run(stream: &mut ChatStream, pieces: &[&str]) -> Vec<Value> {
        let mut chunks: Vec<Value> = pieces
            .iter()
            .flat_map(|p| stream.token(p, Vec::new()))
            .collect();
        chunks.extend(stream.finish(FinishReason::Stop, &Usage::default()));
        chunks
    }

    fn deltas(chunks: &[Value]) -> Vec<Value> {
        let deltas = chunks.iter().map(|c| c["choices"][0]["delta"].clone());
        deltas.filter(|d| !d.is_null()).collect()
    }

    #[test]
    fn text_comes_at_once_and_the_last_delta_is_empty() {
        let mut stream = ChatStream::new(RequestId(7), "m", Offer::default(), true);
        let chunks = run(&mut stream, &["Ro", "me"]);
        assert_eq!(
            deltas(&chunks)[..2],
            [
                json!({"content": "Ro", "role": "assistant"}),
                json!({"content": "me"})
            ]
        );
        assert_eq!(
            chunks[2]["choices"][0],
            json!({"index": 0, "delta": {}, "finish_reason": "stop"})
        );
        assert_eq!(chunks[3]["usage"]["total_tokens"], 0);
    }

    #[test]
    fn calls_come_whole_with_an_index() {
        let mut stream = ChatStream::new(RequestId(7), "m", offer(&["f", "g"]), false);
        stream.start(CallFormat::Mistral, false);
        let chunks = run(
            &mut stream,
            &[
                "Ok <",
                "b> [TOOL",
                "_CALLS]f[ARGS]{\"x\"",
                ": 1}[TOOL_CALLS]g[ARGS]{}",
            ],
        );
        let call = |n: u32, name: &str, arguments: &str| {
            json!({"tool_calls": [{"index": n, "id": format!("00000700{n}"), "type": "function",
                "function": {"name": name, "arguments": arguments}}]})
        };
        assert_eq!(
            deltas(&chunks),
            [
                json!({"content": "Ok <", "role": "assistant"}),
                json!({"content": "b>"}),
                call(0, "f", "{\"x\":1}"),
                call(1, "g", "{}"),
                json!({}),
            ]
        );
        let last = chunks.last().map(|c| &c["choices"][0]["finish_reason"]);
        assert_eq!(last, Some(&json!("tool_calls")));
    }

    #[test]
    fn reasoning_is_a_field_of_its_own() {
        let mut stream = ChatStream::new(RequestId(7), "m", Offer::default(), false);
        stream.start(CallFormat::Hermes, true);
        let chunks = run(&mut stream, &["Hm.</think>", "Yes."]);
        assert_eq!(
            deltas(&chunks),
            [
                json!({"reasoning_content": "Hm.", "role": "assistant"}),
                json!({"content": "Yes."}),
                json!({}),
            ]
        );
    }

    #[test]
    fn one_call_where_one_is_wanted() {
        let one = Offer {
            one_call: true,
            ..offer(&["f"])
        };
        let mut stream = ChatStream::new(RequestId(7), "m", one, false);
        let call = "<tool_call>{\"name\": \"f\"}</tool_call>";
        let chunks = run(&mut stream, &[call, call]);
        let calls = deltas(&chunks);
        let calls = calls.iter().filter(|d| !d["tool_calls"].is_null());
        assert_eq!(calls.count(), 1);
    }

    #[test]
    fn probabilities_wait_for_their_text() {
        let mut stream = ChatStream::new(RequestId(7), "m", offer(&["f"]), false);
        let token = |text: &str| TokenLogprob {
            bytes: text.as_bytes().to_vec(),
            logprob: -1.0,
            top: Vec::new(),
        };
        let mut chunks = stream.token("a", vec![token("a")]);
        chunks.extend(stream.token("<", vec![token("<")]));
        chunks.extend(stream.token("b", vec![token("b")]));
        let seen: Vec<usize> = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array())
            .map(Vec::len)
            .collect();
        assert_eq!(seen, [1, 2]);
    }
}
