//! How long a model stays in memory: its uses, its holds, its idle time. No I/O; the time is
//! an argument.

use std::time::Duration;

use hearth_policy::holds::{Hold, Keep};

use super::residency::Residency;
use super::{HEARTBEAT, process_is_gone};

impl Residency {
    /// Whether an inhibitor or the configuration keeps a model in memory.
    pub(super) fn is_held(&self, model: &str) -> bool {
        self.holds.are_open(model) || self.pinned.iter().any(|pinned| pinned == model)
    }

    /// What keeps a model in memory.
    pub(super) fn holds_of(&self, now: Duration, model: &str) -> Vec<Hold> {
        let mut holds: Vec<Hold> = self.holds.of(model, now).collect();
        if self.pinned.iter().any(|pinned| pinned == model) {
            holds.push(Hold {
                owner: "config".into(),
                reason: "model.pinned".into(),
                until: None,
            });
        }
        holds
    }

    /// The heartbeat of a model's supervisor.
    pub(super) fn beat(&mut self, now: Duration, model: &str) {
        let is_held = self.is_held(model);
        self.entry(model).beat(now, is_held);
    }

    /// A use of a model ended: from now on its keep-alive counts, as the user or the
    /// configuration sets it. `is_awaited`: other callers wait for it.
    pub(super) fn used(
        &mut self,
        now: Duration,
        model: &str,
        keep: Option<&Keep>,
        is_awaited: bool,
    ) {
        if let Some(resident) = self.models.get_mut(model) {
            resident.last_busy = now;
            if keep.is_none() {
                resident.last_used = Some(now);
            }
        }
        let Some(keep) = keep else {
            return;
        };
        self.holds.keep(keep, model, now, process_is_gone);
        let is_released = self.holds.until(model).is_some_and(|until| until <= now);
        let is_needed = is_awaited || self.is_held(model);
        if keep.is_over() && is_released && self.is_ready(model) && !is_needed {
            log::info!(model = model; "unloading the model: its keep-alive has expired");
            self.unload(model);
        }
    }

    /// Whether a model was idle for `limit` and nobody keeps it. A limit of zero means never.
    pub(super) fn is_idle_for(&self, now: Duration, model: &str, limit: Duration) -> bool {
        let is_idle = self.is_ready(model) && self.get(model).is_some_and(|m| !m.is_busy());
        let until = self.stays_until(model, limit);
        is_idle && until.is_some_and(|until| until <= now)
    }

    /// Unloads a model that was idle for `limit` and that nobody keeps.
    pub(super) fn unload_idle(&mut self, now: Duration, model: &str, limit: Duration) {
        // It may have been used since.
        if self.is_idle_for(now, model, limit) {
            self.unload(model);
        }
    }

    /// When a loaded model is unloaded if it is not used again; `None`: never.
    pub(super) fn stays_until(&self, model: &str, limit: Duration) -> Option<Duration> {
        if limit.is_zero() || self.is_held(model) {
            return None;
        }
        let kept = self.holds.until(model)?;
        let Some(resident) = self.get(model) else {
            return Some(kept);
        };
        let used = resident
            .last_used
            .map_or(Duration::ZERO, |used| used + limit);
        // The caller that loaded it may be about to use it.
        Some(kept.max(used).max(resident.last_busy + HEARTBEAT))
    }
}
