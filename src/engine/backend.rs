//! What the tick loop needs of a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::protocol::{Failure, ModelInfo, Sampling};

/// A token id of the model's vocabulary.
pub type Token = i32;

/// Shared between the reader thread, the tick loop and the abort callback.
#[derive(Debug, Default)]
pub struct Progress {
    ticks: AtomicU64,
    abort: AtomicBool,
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

    /// Whether the running decode should end.
    pub fn is_abort(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Notes whether there is work.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether there is work.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

/// Why a decode gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// [`Progress::set_abort`] was seen; the context stays usable.
    #[error("the decode was aborted")]
    Aborted,
    /// llama.cpp refused.
    #[error("llama_decode failed with code {0}")]
    Code(i32),
}

/// A loaded model with one sequence.
pub trait Backend {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// The chat template of the file, and the texts of its begin and end tokens.
    fn template(&self) -> (Option<String>, String, String);

    /// A text as tokens; control tokens in it count only where `special`.
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token>;

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
    fn sample(&mut self) -> Token;

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
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Internal`.
    fn load(
        &self,
        request: &crate::protocol::LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<Self::Backend, Failure>;
}
