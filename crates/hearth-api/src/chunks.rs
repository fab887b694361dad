//! Common interface of the streams of all APIs.

use hearth_proto::{AnswerPart, FinishReason, TokenLogprob, Usage};
use serde_json::Value;

/// How far an answer is, by the clock of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of these were found in the prefix cache.
    pub cached_tokens: u32,
    /// How many of these are done, cached ones included.
    pub done_tokens: u32,
    /// Tokens generated.
    pub generated: u32,
    /// Time from the beginning to the first token, or until now.
    pub prompt_ms: f64,
    /// Time since the first token.
    pub answer_ms: f64,
}

/// Encodes the parts of answers as objects for the client. Answers are identified by their
/// index; an unknown index gives no objects.
pub trait Chunks {
    /// The objects that begin a stream, before any part of an answer.
    fn open(&mut self) -> Vec<Value> {
        Vec::new()
    }

    /// Objects for a further part of a prompt.
    fn prompt(&mut self, _index: usize, _progress: &Progress) -> Vec<Value> {
        Vec::new()
    }

    /// The state of an answer with its next part, and the tokens of that part.
    fn advance(&mut self, _index: usize, _progress: &Progress, _tokens: &[i32]) {}

    /// The stop string of the request that ended an answer, before its end.
    fn stopped_by(&mut self, _index: usize, _stop: &str) {}

    /// Objects for a further part of an answer.
    fn token(
        &mut self,
        index: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value>;

    /// The objects that end an answer and, with the last one, the stream.
    fn finish(&mut self, index: usize, reason: FinishReason, usage: &Usage) -> Vec<Value>;

    /// Whether all answers are complete.
    fn is_over(&self) -> bool;
}
