//! What the service gives up when the board is short of memory or too hot
//! (docs/governor.md).

use std::time::Duration;

use super::Inner;
use crate::governor::{MemoryState, ThermalState};
use crate::protocol::{Command, Failure, FailureKind, RequestId};

/// A refused caller may try again after this long: the memory state improves by at most one
/// step per minute.
const RETRY_S: u32 = 60;

impl Inner {
    /// The system reports memory pressure; the next reading takes it into account.
    pub(in crate::service) fn warn_of_memory(&mut self, now: Duration) {
        self.governor.warn_of_memory(now);
    }

    /// Whether the board has to be watched although no engine runs: something was given up
    /// and may become available again.
    pub(in crate::service) fn is_strained(&self) -> bool {
        self.verdict.memory != MemoryState::Normal || self.verdict.thermal != ThermalState::Cool
    }

    /// Why new requests are refused, if the board is the reason.
    pub(in crate::service) fn refused_by_board(&self) -> Option<Failure> {
        if self.verdict.refuses {
            return Some(no_memory());
        }
        let retry = self.verdict.retry_after?.as_secs();
        let message = "the board is too hot: give it air, or wait until it has cooled down";
        let failure = Failure::new(FailureKind::Overheated, message);
        Some(failure.retry_after(u32::try_from(retry).unwrap_or(RETRY_S)))
    }

    /// Interval until the next reading while work is done.
    pub(in crate::service) fn look_again(&self) -> Duration {
        self.verdict.look_again
    }

    /// Acts on a reading that followed one with state `before`: the worse the state, the
    /// more is given up.
    pub(super) fn give_up_memory(&mut self, before: MemoryState) {
        let now = self.verdict.memory;
        if now <= before {
            return;
        }
        if now < MemoryState::Emergency {
            if let Some(engine) = &self.engine {
                _ = engine.commands.send(Command::Shrink);
            }
            return;
        }
        let running: Vec<RequestId> = self.running.keys().copied().collect();
        for id in running {
            self.cancel(id, no_memory());
        }
        for waiting in self.queue.drain_where(|_| true) {
            waiting.fail(no_memory());
        }
        self.unload();
    }
}

fn no_memory() -> Failure {
    Failure::new(
        FailureKind::OutOfMemory,
        "the board's memory has run short: end other programs, or use a smaller model",
    )
    .retry_after(RETRY_S)
}
