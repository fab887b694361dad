//! The interface between the tick loop and a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hearth_constraint::Vocabulary;
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::{ChatAbilities, Failure, FailureKind, LoadRequest, ModelInfo, Sampling};

use super::confidence::Choice;

/// A token id of the model's vocabulary.
pub type Token = i32;

/// Shared between the reader thread, the tick loop and the abort callback.
#[derive(Debug, Default)]
pub struct Progress {
    ticks: AtomicU64,
    abort: AtomicBool,
    quit: AtomicBool,
    busy: AtomicBool,
}

impl Progress {
    /// Counts a unit of work.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Units of work so far.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Asks the running decode to end, or withdraws that.
    pub fn set_abort(&self, abort: bool) {
        self.abort.store(abort, Ordering::Release);
    }

    /// Asks all work to end: the process is shutting down.
    pub fn set_quit(&self) {
        self.quit.store(true, Ordering::Release);
    }

    /// Whether the process is shutting down.
    pub fn is_quit(&self) -> bool {
        self.quit.load(Ordering::Acquire)
    }

    /// Whether the running decode should end.
    pub fn is_abort(&self) -> bool {
        self.abort.load(Ordering::Acquire) || self.is_quit()
    }

    /// Records whether the engine computes.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether the engine computes; waiting, pauses and rests do not count.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

/// Why a batch was not decoded. The KV cache cells of the batch are then undefined: the
/// caller removes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// [`Progress::is_abort`] was seen; the context stays usable.
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

/// The chat metadata of the model file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatFormat {
    /// `tokenizer.chat_template`.
    pub template: Option<String>,
    /// `tokenizer.chat_template.tool_use`, for requests with tools.
    pub tool_template: Option<String>,
    /// Text of the BOS token; empty where there is none.
    pub bos: String,
    /// Text of the EOS token; empty where there is none.
    pub eos: String,
}

/// A loaded model with a KV cache for several sequences.
pub trait Backend {
    /// The sampling state of one request.
    type Sampler;

    /// Facts about the model.
    fn info(&self) -> &ModelInfo;

    /// Sets the capabilities of its chat template.
    fn set_chat(&mut self, chat: ChatAbilities);

    /// Its chat metadata.
    fn chat_format(&self) -> ChatFormat;

    /// Tokenizes a text; names of control tokens in it become control tokens. `add_bos`
    /// prepends the BOS token where the model uses one.
    fn tokenize(&self, text: &str, add_bos: bool) -> Vec<Token>;

    /// The bytes of a token; control tokens have none.
    fn piece(&self, token: Token) -> Vec<u8>;

    /// The token with exactly this name, if there is one; includes control tokens.
    fn named(&self, name: &str) -> Option<Token> {
        match self.tokenize(name, false)[..] {
            [token] => Some(token),
            _ => None,
        }
    }

    /// Whether the token ends an answer.
    fn is_end(&self, token: Token) -> bool;

    /// All tokens in the format that constraints need; slow for a large vocabulary.
    ///
    /// # Errors
    /// `ModelInvalid` where the tokens form no valid vocabulary.
    fn vocabulary(&self) -> Result<Vocabulary, Failure>;

    /// How many sequences can run, and how many are kept in addition; they are numbered
    /// from 0.
    fn places(&self) -> (u32, u32);

    /// How its memory of a sequence can be cut and shared.
    fn memory(&self) -> MemoryKind;

    /// The first and the last position of a sequence that is in memory; `None` where it is
    /// empty.
    fn positions(&self, seq: u32) -> Option<(u32, u32)>;

    /// Whether the first `tokens` tokens of a sequence are in memory as far as the next
    /// token needs them.
    fn is_usable(&self, seq: u32, tokens: u32) -> bool {
        let positions = self.positions(seq);
        positions.is_some_and(|(first, last)| self.memory().is_usable(first, last, tokens))
    }

    /// Removes a sequence's tokens from `position` on; `false` where that is not
    /// possible. From 0 on it is always possible.
    fn remove(&mut self, seq: u32, position: u32) -> bool;

    /// Adds the first `tokens` tokens of sequence `from` to the empty sequence `to`;
    /// changes nothing and returns `false` where they are not usable
    /// ([`Self::is_usable`]).
    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool;

    /// Clears the memory, so that the next sequence is laid out as in a new one.
    fn clear(&mut self);

    /// Serializes a sequence of `tokens` tokens; empty where that is not possible.
    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8>;

    /// Restores a saved sequence of `tokens` tokens into the empty sequence `seq`;
    /// `false` where there is no room, or it does not match the model. The bytes come
    /// from [`Self::save`] under the same [`Self::settings`].
    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool;

    /// A text that names what saved bytes depend on besides the model.
    fn settings(&self) -> String;

    /// Decodes a batch of at most [`Self::batch_max`] tokens; afterwards a token can be
    /// sampled after each part with [`Part::samples`].
    ///
    /// # Errors
    /// Aborted, no room, or refused by llama.cpp.
    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError>;

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

    /// The embedding of a text of at most [`Self::embedding_tokens_max`] tokens,
    /// normalized to length one.
    ///
    /// # Errors
    /// `Cancelled` where it was aborted, `OutOfMemory`, `Internal`.
    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure>;

    /// The longest text that can be embedded, in tokens.
    fn embedding_tokens_max(&self) -> u32;

    /// Sets the number of threads from the next decode on, clamped to the pool; `decode`
    /// of them compute a batch of a single token (0: all).
    fn set_threads(&mut self, threads: u32, decode: u32);

    /// Releases memory that can be allocated again later. With `is_empty`, nothing in the
    /// KV cache is needed any more, and all of it beyond one context is released, too.
    fn shrink(&mut self, is_empty: bool);
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

/// Creates a [`Backend`] in the process that will run it.
pub trait Loader {
    /// The backend that it creates.
    type Backend: Backend;

    /// Loads the model, reporting progress from 0 to 1.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Io`, `Internal`.
    fn load(
        &self,
        request: &LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<Self::Backend, Failure>;
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
