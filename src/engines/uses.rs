//! How long a model stays in memory: its uses, its holds, its idle time.

use std::time::Duration;

use hearth_policy::holds::{Hold, Keep};
use hearth_proto::{Failure, FailureKind, ModelRef, Use};
use tokio::sync::oneshot;

use super::residency::Residency;
use super::{EnginePool, HEARTBEAT, WAITS, process_is_gone};
use crate::caller::Caller;

/// The longest reason of an inhibitor in bytes: everyone who lists what keeps a model gets it.
const REASON_MAX: usize = 256;

/// An inhibitor: it keeps a model in memory.
#[derive(Debug)]
pub struct Inhibitor {
    /// With which its owner releases it.
    pub cookie: u32,
    /// Resolves when it ends: with a value if the model left the memory in spite of it, with
    /// an error if its owner has released it.
    pub ended: oneshot::Receiver<()>,
}

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

    /// Ends the inhibitors of a model that leaves the memory in spite of them, and tells
    /// their owners.
    pub(super) fn end_inhibitors(&mut self, model: &str) {
        for cookie in self.holds.release_all(model) {
            if let Some(owner) = self.inhibitor_ends.remove(&cookie) {
                // It may have left.
                _ = owner.send(());
            }
        }
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

    /// A caller has asked for a loaded model to be in memory.
    pub(super) fn asked_for(&mut self, now: Duration, model: &str) {
        if let Some(resident) = self.models.get_mut(model) {
            resident.use_by(now, WAITS);
        }
    }

    /// Records a use of a model if it is ready, and returns whether it is. The use counts with
    /// the class of a load: embeddings compute in the background, but the model would not make
    /// room for a request of that class, as it would be loaded again before that one.
    pub(super) fn use_if_ready(&mut self, now: Duration, model: &str) -> bool {
        let is_ready = self.is_ready(model);
        if is_ready {
            self.asked_for(now, model);
        }
        is_ready
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

impl EnginePool {
    /// Keeps a model in memory until [`Self::release`], or until it leaves the memory in spite
    /// of it, and loads it if necessary.
    ///
    /// # Errors
    /// `InvalidArgs` for a reason that is too long, `Busy` where this caller has too many
    /// inhibitors, else those of loading.
    pub async fn inhibit_unload(
        &self,
        caller: &Caller,
        model: &ModelRef,
        reason: &str,
    ) -> Result<Inhibitor, Failure> {
        if reason.len() > REASON_MAX {
            let message = format!("the reason is longer than {REASON_MAX} bytes: shorten it");
            return Err(Failure::invalid(message));
        }
        let owner = caller.origin.to_string();
        let name = self.name_for(model, Use::Chat).await?;
        let (sender, ended) = oneshot::channel();
        let (cookie, is_loaded) = self.change_quietly(|residency| {
            let cookie = residency.holds.add(&owner, &name, reason);
            if let Some(cookie) = cookie {
                residency.inhibitor_ends.insert(cookie, sender);
            }
            (cookie, residency.is_ready(&name))
        });
        let cookie = cookie.ok_or_else(|| {
            Failure::new(
                FailureKind::Busy,
                "this caller has too many inhibitors: release a cookie first",
            )
        })?;
        if !is_loaded && let Err(failure) = self.load_installed(caller, &name).await {
            self.release(caller, cookie);
            return Err(failure);
        }
        log::info!(uid:% = caller.principal, sender = owner.as_str(), model = name.as_str(), reason; "an inhibitor keeps the model in memory");
        Ok(Inhibitor { cookie, ended })
    }

    /// Releases an inhibitor of this caller; returns whether there was one.
    pub fn release(&self, caller: &Caller, cookie: u32) -> bool {
        let owner = caller.origin.to_string();
        // Another model may wait for the room.
        self.change(|residency| {
            let is_released = residency.holds.release(&owner, cookie);
            if is_released {
                residency.inhibitor_ends.remove(&cookie);
            }
            is_released
        })
    }

    /// How long a loaded model stays in memory if it is not used; `None`: for ever.
    pub fn stays(&self, model: &str) -> Option<Duration> {
        let limit = Duration::from_secs(u64::from(self.shared.config.get().engine.idle_unload_s));
        let until = self.shared.residency.lock().stays_until(model, limit)?;
        Some(until.saturating_sub(self.now()))
    }

    /// What keeps a model in memory.
    pub fn holds(&self, model: &str) -> Vec<Hold> {
        let now = self.now();
        self.shared.residency.lock().holds_of(now, model)
    }

    /// The time since a model was last used; `None` if it is not in memory.
    pub fn idle_time(&self, model: &str) -> Option<Duration> {
        let now = self.now();
        let residency = self.shared.residency.lock();
        let resident = residency.get(model).filter(|r| r.engine.is_some())?;
        if resident.is_busy() {
            return Some(Duration::ZERO);
        }
        Some(now.saturating_sub(resident.last_busy))
    }

    /// A use of a model ended: from now on its keep-alive counts. `is_awaited`: other
    /// callers wait for it.
    pub(crate) fn used(&self, model: &str, keep: Option<&Keep>, is_awaited: bool) {
        let now = self.now();
        self.change(|residency| residency.used(now, model, keep, is_awaited));
    }
}
