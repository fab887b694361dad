//! What the tick loop needs of a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::protocol::{Failure, LoadRequest, ModelInfo, Sampling};

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
    /// Notes a unit of work.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Units of work so far.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Asks the running decode to end, or takes that back.
    pub fn set_abort(&self, abort: bool) {
        self.abort.store(abort, Ordering::Release);
    }

    /// Asks all work to end: the process is to go.
    pub fn set_quit(&self) {
        self.quit.store(true, Ordering::Release);
    }

    /// Whether the process is to go.
    pub fn is_quit(&self) -> bool {
        self.quit.load(Ordering::Acquire)
    }

    /// Whether the running decode should end.
    pub fn is_abort(&self) -> bool {
        self.abort.load(Ordering::Acquire) || self.is_quit()
    }

    /// Notes whether the engine computes.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether the engine computes; waiting, pausing and resting is not computing.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

/// Why there is no next token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// [`Progress::is_abort`] was seen; the context stays usable.
    #[error("the decode was aborted")]
    Aborted,
    /// llama.cpp refused.
    #[error("llama_decode failed with code {0}")]
    Code(i32),
    /// The logits hold nothing that could be chosen (all are NaN or -inf).
    #[error("the model computed no usable numbers; its file may be damaged")]
    NoLogits,
}

/// What the model file says about chats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatFormat {
    /// `tokenizer.chat_template`.
    pub template: Option<String>,
    /// Text of the token that begins a text; empty where there is none.
    pub bos: String,
    /// Text of the token that ends one.
    pub eos: String,
}

/// A loaded model with one sequence.
pub trait Backend {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// How it wants chats.
    fn chat_format(&self) -> ChatFormat;

    /// A text as tokens; the names of control tokens in it count as such. `add_bos`
    /// puts the begin token in front where the model wants one.
    fn tokenize(&self, text: &str, add_bos: bool) -> Vec<Token>;

    /// The bytes of a token; control tokens have none.
    fn piece(&self, token: Token) -> Vec<u8>;

    /// Whether the token ends an answer.
    fn is_end(&self, token: Token) -> bool;

    /// Forgets the sequence.
    fn clear(&mut self);

    /// Decodes `tokens` at `position`; afterwards the last one's logits can be sampled.
    ///
    /// # Errors
    /// Aborted, or refused by llama.cpp.
    fn decode(&mut self, tokens: &[Token], position: u32) -> Result<(), DecodeError>;

    /// Sets up sampling for a new answer; penalties see the prompt's end.
    ///
    /// # Errors
    /// `InvalidArgs` where a value is out of range.
    fn begin_sampling(&mut self, sampling: &Sampling, prompt: &[Token]) -> Result<(), Failure>;

    /// Chooses the next token from the last decode's logits.
    ///
    /// # Errors
    /// [`DecodeError::NoLogits`].
    fn sample(&mut self) -> Result<Token, DecodeError>;

    /// Threads from the next decode on; clamped to the pool.
    fn set_threads(&mut self, threads: u32);
}

/// Makes a [`Backend`] in the process that will run it.
pub trait Loader {
    /// What it loads.
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
