//! Batches of tokens, and the choice of the next ones.

use hearth_proto::{Failure, FailureKind, Sampling};

use super::choice::Choice;
use super::tokenizer::Token;

/// Why a batch was not decoded. The KV cache cells of the batch are then undefined: the
/// caller removes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// [`is_abort`](super::Progress::is_abort) was seen; the context stays usable.
    #[error("the decode was aborted")]
    Aborted,
    /// The KV cache has no room for the batch.
    #[error("the KV cache is full")]
    NoRoom,
    /// llama.cpp refused.
    #[error("llama_decode failed with code {0}")]
    Code(i32),
}

impl From<DecodeError> for Failure {
    /// For a decode that should not fail: nothing aborts it, and its cache is large
    /// enough.
    fn from(error: DecodeError) -> Self {
        Self::new(FailureKind::Internal, error.to_string())
    }
}

/// One token of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its id.
    pub token: Token,
    /// Its position in its sequence.
    pub position: u32,
    /// The number of its sequence in the KV cache.
    pub seq: u32,
    /// Whether a token will be sampled after it.
    pub samples: bool,
}

/// Masks the logits of tokens that are not allowed.
pub type Mask<'a> = &'a mut dyn FnMut(&mut [f32]) -> Result<(), Failure>;

/// A chosen token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: Token,
    /// Its log-probability, and the likeliest tokens with theirs, if requested.
    pub logprobs: Option<(f32, Vec<(Token, f32)>)>,
    /// How it was chosen, where a constraint allowed few other tokens.
    pub choice: Option<Choice>,
}

/// The model's computations.
pub trait Decoder {
    /// The sampling state of one request.
    type Sampler;

    /// Decodes a batch of at most [`Self::batch_max`] tokens; afterwards a token can be
    /// sampled after each part with [`Part::samples`].
    ///
    /// # Errors
    /// Aborted, no room, or refused by llama.cpp.
    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError>;

    /// Applies these adapters, and no others, from the next batch on: their numbers among
    /// [`Backend::adapters`](super::Backend::adapters), ascending, and their scales.
    fn apply_adapters(&mut self, scales: &[(usize, f32)]);

    /// The maximum number of tokens in a batch.
    fn batch_max(&self) -> u32;

    /// Sets up sampling for a request. [`Self::accept`] passes the tokens that the
    /// penalties apply to.
    ///
    /// # Errors
    /// `InvalidArgs` where a value is out of range.
    fn sampler(&self, sampling: &Sampling) -> Result<Self::Sampler, Failure>;

    /// Passes to a sampler the tokens that precede its next choice: those of the prompt,
    /// or of the answer, each exactly once.
    fn accept(&self, sampler: &mut Self::Sampler, tokens: &[Token], are_answer: bool);

    /// Chooses the token after part number `part` of the last batch, with `logprobs`
    /// log-probabilities if requested.
    ///
    /// # Errors
    /// Those of the mask; `Internal` where no token can be chosen (all logits are NaN or
    /// -inf).
    fn sample(
        &mut self,
        sampler: &mut Self::Sampler,
        part: usize,
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure>;

    /// The log-probability of `token` after part number `part` of the last batch, and those of
    /// the `top` likeliest tokens.
    fn logprobs(&self, part: usize, token: Token, top: u8) -> (f32, Vec<(Token, f32)>);

    /// The embedding of a text of at most [`Self::embedding_tokens_max`] tokens,
    /// normalized to length one.
    ///
    /// # Errors
    /// `Cancelled` where it was aborted, `OutOfMemory`, `Internal`.
    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure>;

    /// The score of a query and a document, tokenized together, of at most
    /// [`Self::embedding_tokens_max`] tokens.
    ///
    /// # Errors
    /// `Cancelled` where it was aborted, `OutOfMemory`, `Internal`.
    fn rank(&mut self, tokens: &[Token]) -> Result<f32, Failure>;

    /// The longest text that can be embedded or scored, in tokens.
    fn embedding_tokens_max(&self) -> u32;

    /// Sets the number of threads from the next decode on, clamped to the pool; `decode`
    /// of them compute a batch of a single token (0: all).
    fn set_threads(&mut self, threads: u32, decode: u32);
}

/// The first token with the largest logit above -inf; a NaN is never the largest.
pub fn argmax(logits: &[f32]) -> Option<Token> {
    let mut best = (None, f32::NEG_INFINITY);
    for (id, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (Some(id), *logit);
        }
    }
    best.0
}

/// The failure where no token can be chosen.
pub fn no_logits() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "the model computed no usable numbers; its file may be damaged, check it with `hearth-engine check`",
    )
}

#[cfg(test)]
mod tests {
    use super::argmax;

    #[test]
    fn argmax_skips_what_is_no_number() {
        assert_eq!(argmax(&[1.0, f32::NAN, 3.0, 3.0]), Some(2));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(argmax(&[]), None);
    }
}
