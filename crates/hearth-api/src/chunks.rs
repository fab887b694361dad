//! What streams of all APIs have in common.

use hearth_proto::{AnswerPart, FinishReason, TokenLogprob, Usage};
use serde_json::Value;

/// Turns the pieces of answers into objects for the client. Answers are named by their
/// index; nothing comes of one that is not there.
pub trait Chunks {
    /// The objects that a stream begins with, before anything of an answer is known.
    fn open(&mut self) -> Vec<Value> {
        Vec::new()
    }

    /// Objects for more of an answer.
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
