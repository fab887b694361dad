//! Answers into stream chunks.

use std::mem;

use hearth_proto::{AnswerPart, FinishReason, RequestId, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::Value;

use super::response::{
    CallBody, FINGERPRINT, Logprobs, StreamUsage, UsageBody, chat_id, logprobs, tool_call, total,
    unix_seconds, usage,
};
use crate::encode::value;
use crate::timings::{Report, Reports};
use crate::{Chunks, Progress};

/// Encodes the parts of answers as `chat.completion.chunk` objects.
#[derive(Debug)]
pub struct ChatStream {
    id: String,
    model: String,
    created: u64,
    include_usage: bool,
    reports: Reports,
    choices: Vec<Choice>,
}

/// State of one answer.
#[derive(Debug)]
struct Choice {
    id: RequestId,
    /// Calls so far.
    calls: usize,
    /// Whether a chunk was sent.
    begun: bool,
    /// Probabilities of tokens whose text is still held back.
    logprobs: Vec<TokenLogprob>,
    progress: Progress,
    /// Set when it is complete.
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<StreamUsage>,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallBody; 1]>,
    /// In the first one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

impl ChatStream {
    /// A stream for the answers to these requests.
    pub fn new(ids: &[RequestId], model: &str, include_usage: bool) -> Self {
        let choice = |id: &RequestId| Choice {
            id: *id,
            calls: 0,
            begun: false,
            logprobs: Vec::new(),
            progress: Progress::default(),
            usage: None,
        };
        Self {
            id: chat_id(ids.first().copied()),
            model: model.to_owned(),
            created: unix_seconds(),
            include_usage,
            reports: Reports::default(),
            choices: ids.iter().map(choice).collect(),
        }
    }

    /// The stream with these reports.
    #[must_use]
    pub fn reporting(self, reports: Reports) -> Self {
        Self { reports, ..self }
    }

    /// A chunk for each of these; the last one reports.
    fn chunks(&self, choices: Vec<ChunkChoice>, mut report: Report) -> Vec<Value> {
        let last = choices.len().saturating_sub(1);
        let chunk = |(at, choice)| {
            let report = if at == last {
                mem::take(&mut report)
            } else {
                Report::default()
            };
            self.chunk(&[choice], None, report)
        };
        choices.into_iter().enumerate().map(chunk).collect()
    }

    fn chunk(&self, choices: &[ChunkChoice], usage: Option<UsageBody>, report: Report) -> Value {
        value(&Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage: self.include_usage.then(|| usage.into()),
            report,
        })
    }
}

impl Chunks for ChatStream {
    fn prompt(&mut self, index: usize, progress: &Progress) -> Vec<Value> {
        let wanted = self.choices.get_mut(index);
        let Some(choice) = wanted.filter(|_| self.reports.return_progress) else {
            return Vec::new();
        };
        let delta = choice.empty(index);
        self.chunks(vec![delta], Report::of_prompt(self.reports, progress))
    }

    fn advance(&mut self, index: usize, progress: &Progress, _: &[i32]) {
        if let Some(choice) = self.choices.get_mut(index) {
            choice.progress = *progress;
        }
    }

    fn token(
        &mut self,
        index: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value> {
        let Some(choice) = self.choices.get_mut(index) else {
            return Vec::new();
        };
        choice.logprobs.extend(logprobs);
        let choices = choice.read(index, parts);
        let report = Report::of_answer(self.reports, &choice.progress);
        self.chunks(choices, report)
    }

    /// The delta of the last chunk is empty: clients drop the content of a chunk with a
    /// `finish_reason`.
    fn finish(&mut self, index: usize, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let Some(choice) = self.choices.get_mut(index) else {
            return Vec::new();
        };
        choice.usage = Some(*figures);
        let mut choices = choice.read(index, Vec::new());
        let reason = reason.with_calls(choice.calls);
        choices.push(choice.choice(index, Delta::default(), Some(reason)));
        if !self.is_over() {
            return self.chunks(choices, Report::default());
        }
        let total = total(self.choices.iter().filter_map(|c| c.usage));
        let report = Report::of_all(&total);
        if !self.include_usage {
            return self.chunks(choices, report);
        }
        let mut chunks = self.chunks(choices, Report::default());
        chunks.push(self.chunk(&[], Some(usage(&total)), report));
        chunks
    }

    fn is_over(&self) -> bool {
        self.choices.iter().all(|choice| choice.usage.is_some())
    }
}

impl Choice {
    /// Choices for parts of the answer; the first call always returns one.
    fn read(&mut self, index: usize, parts: Vec<AnswerPart>) -> Vec<ChunkChoice> {
        let mut choices = Vec::new();
        for part in parts {
            let mut delta = Delta::default();
            match part {
                AnswerPart::Content(text) => delta.content = Some(text),
                AnswerPart::Reasoning(text) => delta.reasoning_content = Some(text),
                AnswerPart::ToolCall(call) => {
                    let mut call = tool_call(self.id, self.calls, &call);
                    call.index = Some(self.calls);
                    self.calls += 1;
                    delta.tool_calls = Some([call]);
                }
            }
            choices.push(self.delta(index, delta));
        }
        if !self.begun {
            choices.push(self.empty(index));
        }
        choices
    }

    /// A choice without text; the first one names the role.
    fn empty(&mut self, index: usize) -> ChunkChoice {
        let content = (!self.begun).then(String::new);
        self.delta(
            index,
            Delta {
                content,
                ..Delta::default()
            },
        )
    }

    fn delta(&mut self, index: usize, mut delta: Delta) -> ChunkChoice {
        if !self.begun {
            self.begun = true;
            delta.role = Some("assistant");
        }
        self.choice(index, delta, None)
    }

    fn choice(
        &mut self,
        index: usize,
        delta: Delta,
        finish_reason: Option<&'static str>,
    ) -> ChunkChoice {
        let tokens = mem::take(&mut self.logprobs);
        ChunkChoice {
            index,
            delta,
            finish_reason,
            logprobs: (!tokens.is_empty()).then(|| logprobs(&tokens)),
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::ToolCall;
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> AnswerPart {
        AnswerPart::Content(text.into())
    }

    fn run(stream: &mut ChatStream, pieces: &[AnswerPart]) -> Vec<Value> {
        let mut chunks: Vec<Value> = pieces
            .iter()
            .flat_map(|p| stream.token(0, vec![p.clone()], Vec::new()))
            .collect();
        chunks.extend(stream.finish(0, FinishReason::Stop, &Usage::default()));
        chunks
    }

    fn deltas(chunks: &[Value]) -> Vec<Value> {
        let deltas = chunks.iter().map(|c| c["choices"][0]["delta"].clone());
        deltas.filter(|d| !d.is_null()).collect()
    }

    #[test]
    fn text_is_streamed_at_once_and_the_last_delta_is_empty() {
        let mut stream = ChatStream::new(&[RequestId(7)], "m", true);
        let chunks = run(&mut stream, &[text("Ro"), text("me")]);
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
    fn calls_are_streamed_complete_with_an_index() {
        let mut stream = ChatStream::new(&[RequestId(7)], "m", false);
        let chunks = run(
            &mut stream,
            &[
                text("Ok"),
                AnswerPart::ToolCall(ToolCall::new("f", json!({"x": 1}))),
                AnswerPart::ToolCall(ToolCall::new("g", json!({}))),
            ],
        );
        let call = |n: u32, name: &str, arguments: &str| {
            json!({"tool_calls": [{"index": n, "id": format!("00000700{n}"), "type": "function",
                "function": {"name": name, "arguments": arguments}}]})
        };
        assert_eq!(
            deltas(&chunks),
            [
                json!({"content": "Ok", "role": "assistant"}),
                call(0, "f", "{\"x\":1}"),
                call(1, "g", "{}"),
                json!({}),
            ]
        );
        let last = chunks.last().map(|c| &c["choices"][0]["finish_reason"]);
        assert_eq!(last, Some(&json!("tool_calls")));
    }

    #[test]
    fn reasoning_has_its_own_field() {
        let mut stream = ChatStream::new(&[RequestId(7)], "m", false);
        let chunks = run(
            &mut stream,
            &[AnswerPart::Reasoning("Hm.".into()), text("Yes.")],
        );
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
    fn several_answers_have_indices_and_one_usage() {
        let ids = [RequestId(7), RequestId(8)];
        let mut stream = ChatStream::new(&ids, "m", true);
        let cost = |completion_tokens| Usage {
            prompt_tokens: 10,
            completion_tokens,
            ..Usage::default()
        };
        let call = AnswerPart::ToolCall(ToolCall::new("f", json!({})));
        let mut chunks = stream.token(1, vec![text("b")], Vec::new());
        chunks.extend(stream.token(0, vec![call], Vec::new()));
        chunks.extend(stream.finish(1, FinishReason::Length, &cost(1)));
        assert!(!stream.is_over());
        chunks.extend(stream.finish(0, FinishReason::Stop, &cost(2)));
        assert!(stream.is_over());
        let usage = chunks.pop().map(|mut chunk| chunk["usage"].take()).unwrap();
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(10), &json!(3))
        );
        let seen: Vec<Value> = chunks
            .iter()
            .map(|c| json!([c["choices"][0]["index"], c["choices"][0]["finish_reason"]]))
            .collect();
        assert_eq!(
            Value::from(seen),
            json!([[1, null], [0, null], [1, "length"], [0, "tool_calls"]])
        );
        assert!(chunks.iter().all(|c| c["id"] == "chatcmpl-7"));
        let called = &chunks[1]["choices"][0]["delta"]["tool_calls"][0]["id"];
        assert_eq!(called, "000007000");
    }

    #[test]
    fn logprobs_come_with_their_text() {
        let mut stream = ChatStream::new(&[RequestId(7)], "m", false);
        let token = |text: &str| TokenLogprob {
            bytes: text.as_bytes().to_vec(),
            logprob: -1.0,
            top: Vec::new(),
            ..TokenLogprob::default()
        };
        let mut chunks = stream.token(0, vec![text("a")], vec![token("a")]);
        chunks.extend(stream.token(0, Vec::new(), vec![token("<")]));
        chunks.extend(stream.token(0, vec![text("<b")], vec![token("b")]));
        let seen: Vec<usize> = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array())
            .map(Vec::len)
            .collect();
        assert_eq!(seen, [1, 2]);
    }
}
