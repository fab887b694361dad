//! What the threads of the engine share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
