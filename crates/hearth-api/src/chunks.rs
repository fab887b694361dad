//! Common interface of the streams of all APIs.

use hearth_proto::{AnswerPart, FinishReason, TokenLogprob, Usage};
use serde_json::Value;

/// Encodes the parts of answers as objects for the client. Answers are identified by their
/// index; an unknown index gives no objects.
pub trait Chunks {
    /// The objects that begin a stream, before any part of an answer.
    fn open(&mut self) -> Vec<Value> {
        Vec::new()
    }

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
