//! Callers that wait for a model to be loaded.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Inner;
use crate::protocol::{Failure, FailureKind, ModelInfo};

#[derive(Debug)]
pub(super) struct LoadWaiter {
    model: String,
    sender: oneshot::Sender<Result<(), Failure>>,
    /// The caller sets the keep-alive itself.
    keeps: bool,
}

impl Inner {
    /// Requests a model; `waiter` is notified when it is ready or cannot be loaded.
    /// `keeps`: the caller sets the keep-alive itself.
    pub(in crate::service) fn want(
        &mut self,
        model: String,
        waiter: Option<oneshot::Sender<Result<(), Failure>>>,
        keeps: bool,
    ) {
        if let Some(sender) = waiter {
            if self.loaded_model() == Some(&model) && self.is_ready() {
                _ = sender.send(Ok(()));
                return;
            }
            self.load_waiters.push(LoadWaiter {
                model: model.clone(),
                sender,
                keeps,
            });
        }
        if self.loaded_model().is_some_and(|loaded| loaded != model) {
            self.cancel_prewarms();
        }
        self.failed = None;
        self.wanted = Some(model);
    }

    /// The model is ready.
    pub(super) fn loaded(&mut self, now: Duration, info: ModelInfo) {
        self.cpu.clone_from(&info.cpu);
        if let Some(engine) = &mut self.engine {
            engine.info = Some(info);
        }
        self.last_busy = now;
        // Requests that wait for it count as a use when they are over.
        let waiters = &self.load_waiters;
        if waiters.iter().any(|w| !w.keeps) || waiters.is_empty() && self.queue.is_empty() {
            self.last_used = Some(now);
        }
        self.answer_waiters(&Ok(()));
    }

    /// The wanted model cannot be loaded: fails everything that waits for it.
    pub(in crate::service) fn load_failed(&mut self, model: &str, failure: &Failure) {
        log::error!(model = model; "cannot load: {failure}");
        self.failed = Some(failure.clone());
        if self.wanted() == Some(model) {
            self.wanted = None;
        }
        for waiting in self.queue.drain_where(|w| w.model == model) {
            waiting.fail(failure.clone());
        }
        self.answer_waiters(&Err(failure.clone()));
    }

    /// Answers those who wait for the model that is loaded or failed; the others requested
    /// one that was superseded.
    pub(super) fn answer_waiters(&mut self, result: &Result<(), Failure>) {
        let loaded = self.loaded_model().map(str::to_owned);
        for waiter in self.load_waiters.drain(..) {
            let answer = if result.is_err() || loaded.as_deref() == Some(&waiter.model) {
                result.clone()
            } else {
                Err(Failure::new(
                    FailureKind::Busy,
                    "another model was asked for meanwhile: try again",
                ))
            };
            _ = waiter.sender.send(answer);
        }
    }
}
