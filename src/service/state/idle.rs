//! When a model that nobody uses goes.

use std::time::Duration;

use super::{BEAT, Inner};
use crate::service::keep_alive::{Keep, is_gone};
use crate::service::prewarm::is_shared;

impl Inner {
    /// The supervisor's sign of life.
    pub(in crate::service) fn beat(&mut self, now: Duration) {
        self.beat = now;
        if self.is_in_use() {
            self.last_busy = now;
        }
        if self.holds.are_open() {
            self.last_used = Some(now);
        }
    }

    /// A use of a model ended: from now on it stays for as long as its user wishes, or as
    /// the configuration says.
    pub(in crate::service) fn used(&mut self, now: Duration, model: &str, keep: Option<&Keep>) {
        let Some(keep) = keep else {
            self.last_used = Some(now);
            return;
        };
        self.holds.keep(keep, model, now, is_gone);
        let is_let_go = self.holds.until(model).is_some_and(|until| until <= now);
        let is_loaded = self.is_ready() && self.loaded_model() == Some(model);
        let is_held = self.has_askers() || self.holds.are_open();
        if keep.is_over() && is_let_go && is_loaded && !is_held {
            log::info!(model = model; "the model is let go");
            self.unload();
        }
    }

    /// Unloads a model that nobody has used for so long, and nobody holds; whether it
    /// did. Zero keeps it for ever.
    pub(in crate::service) fn unload_idle(&mut self, now: Duration, limit: Duration) -> bool {
        let is_due = self.is_ready()
            && !self.is_in_use()
            && self.stays_until(limit).is_some_and(|until| until <= now);
        if is_due {
            self.unload();
        }
        is_due
    }

    /// When the loaded model goes if nobody uses it any more; `None`: never.
    pub(in crate::service) fn stays_until(&self, limit: Duration) -> Option<Duration> {
        if limit.is_zero() || self.holds.are_open() {
            return None;
        }
        let model = self.loaded_model().unwrap_or_default();
        let kept = self.holds.until(model)?;
        let used = self.last_used.map_or(Duration::ZERO, |used| used + limit);
        // Whoever has loaded it may be about to use it.
        Some(kept.max(used).max(self.last_busy + BEAT))
    }

    fn is_in_use(&self) -> bool {
        self.is_busy() || !self.queue.is_empty()
    }

    /// Whether somebody waits for an answer; the config's prompts are nobody's.
    fn has_askers(&self) -> bool {
        let running = self.running.values();
        !self.asked.is_empty()
            || self.asked_for() > 0
            || running.map(|r| &r.waiting.request).any(|r| !is_shared(r))
    }
}
