//! Which model is in memory, and for how long. No I/O; the time is an argument.

use std::time::Duration;

use hearth_policy::holds::{Holds, Keep};
use hearth_proto::{Command, Failure, FailureKind, Limits, ModelInfo};
use tokio::sync::{mpsc, oneshot};

use super::slot::{FileId, Slot, Slots};
use super::status::{PoolStatus, ResidentModel};
use super::{HEARTBEAT, process_is_gone, stopping};
use crate::board::Activity;

/// The state of the pool.
#[derive(Debug, Default)]
pub(super) struct Residency {
    engine: Option<Engine>,
    /// The model that should be in memory.
    wanted: Option<String>,
    waiters: Vec<LoadWaiter>,
    failed: Option<Failure>,
    pub(super) inhibitors: Holds,
    /// When a model was last used by a caller that set no keep-alive of its own.
    last_used: Option<Duration>,
    /// When it was last seen in use.
    last_busy: Duration,
    /// When the supervisor last sent its heartbeat.
    heartbeat: Duration,
    crashes: u64,
    loads: u64,
    cpu: String,
    /// The daemon finishes running answers: nothing is loaded or unloaded on request.
    draining: bool,
    stopping: bool,
    /// Engines that have ended.
    ends: u64,
}

/// The running engine process.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) model: String,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) pid: Option<u32>,
    pub(super) file: FileId,
    /// What was reduced to fit the memory; empty if nothing was.
    pub(super) note: String,
    pub(super) slots: Slots,
    /// What it reported when the model was loaded.
    pub(super) info: Option<ModelInfo>,
    /// It was told to end: later requests wait for the next engine.
    pub(super) is_ending: bool,
    /// The limits that it was last told.
    pub(super) limits: Limits,
}

/// A caller that waits for a model to be loaded.
#[derive(Debug)]
struct LoadWaiter {
    model: String,
    sender: oneshot::Sender<Result<(), Failure>>,
    /// The caller sets the keep-alive itself.
    sets_keep_alive: bool,
}

/// A model that is ready for requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadyModel {
    /// Its name.
    pub(crate) name: String,
    /// Requests that its engine works on at once.
    pub(crate) slots: u32,
}

/// What a user of the pool has to do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Consequence {
    /// Nothing.
    None,
    /// The loaded model is to be replaced by another one.
    Replace,
    /// No model is wanted any more.
    Unload,
}

impl From<()> for Consequence {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl Residency {
    /// The model that is loaded or being loaded.
    pub(super) fn loaded(&self) -> Option<&str> {
        self.engine.as_ref().map(|e| e.model.as_str())
    }

    pub(super) fn wanted(&self) -> Option<&str> {
        self.wanted.as_deref()
    }

    pub(super) fn is_ready(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|e| e.info.is_some() && !e.is_ending)
    }

    /// The model that takes requests now.
    pub(super) fn ready(&self) -> Option<ReadyModel> {
        let engine = self.engine.as_ref().filter(|e| !e.is_ending)?;
        Some(ReadyModel {
            name: engine.model.clone(),
            slots: engine.info.as_ref()?.slots,
        })
    }

    /// Opens a slot of a model that is ready; its engine knows the limits before the work.
    pub(super) fn slot(&mut self, model: &str, limits: Limits) -> Option<Slot> {
        if !self.is_ready() {
            return None;
        }
        self.set_limits(limits);
        let engine = self.engine.as_ref().filter(|e| e.model == model)?;
        Some(engine.slots.open(engine.commands.clone(), engine.file))
    }

    /// Tells the engine the limits if they have changed.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        if let Some(engine) = &mut self.engine
            && engine.limits != limits
        {
            engine.limits = limits;
            // An engine that has ended is noticed by its supervisor.
            _ = engine.commands.send(Command::SetLimits(limits));
        }
    }

    /// Sends all engines a command that no event answers.
    pub(super) fn broadcast(&self, command: Command) {
        if let Some(engine) = &self.engine {
            _ = engine.commands.send(command);
        }
    }

    /// Whether an engine processes requests or loads a model.
    pub(super) fn is_busy(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|e| e.info.is_none() || e.is_ending || !e.slots.are_closed())
    }

    pub(super) fn activity(&self) -> Activity {
        match &self.engine {
            None => Activity::None,
            Some(_) if self.is_busy() => Activity::Busy,
            Some(_) => Activity::Idle,
        }
    }

    /// Without an engine there is nothing to watch but the daemon's own loop, and the
    /// caller runs in it.
    pub(super) fn is_advancing(&self, now: Duration) -> bool {
        self.engine.is_none() || now.saturating_sub(self.heartbeat) < HEARTBEAT * 3
    }

    /// Requests a model; the waiter is notified when it is ready or cannot be loaded.
    /// `sets_keep_alive`: the caller sets the keep-alive itself.
    pub(super) fn want(
        &mut self,
        model: &str,
        waiter: Option<oneshot::Sender<Result<(), Failure>>>,
        sets_keep_alive: bool,
    ) -> Consequence {
        if let Some(sender) = waiter {
            if self.loaded() == Some(model) && self.is_ready() {
                _ = sender.send(Ok(()));
                return Consequence::None;
            }
            self.waiters.push(LoadWaiter {
                model: model.to_owned(),
                sender,
                sets_keep_alive,
            });
        }
        self.failed = None;
        self.wanted = Some(model.to_owned());
        match self.loaded() {
            Some(loaded) if loaded != model => Consequence::Replace,
            _ => Consequence::None,
        }
    }

    /// Sets that no model is wanted, and tells those who wait for one.
    pub(super) fn unload(&mut self) -> Consequence {
        self.fail_waiters(&superseded(
            "the model was unloaded in the meantime: try again",
        ));
        self.wanted = None;
        self.failed = None;
        self.inhibitors.forget_wishes();
        // What is submitted from now on is not cancelled with what runs: it waits.
        if let Some(engine) = &mut self.engine {
            engine.is_ending = true;
        }
        Consequence::Unload
    }

    /// Refuses requests to load and unload from now on.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining || self.stopping
    }

    /// Unloads the model, and loads no other one afterwards.
    pub(super) fn stop(&mut self) -> Consequence {
        self.stopping = true;
        self.fail_waiters(&stopping());
        self.unload()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// An engine was started.
    pub(super) fn started(&mut self, now: Duration, engine: Engine) {
        self.engine = Some(engine);
        self.beat(now);
    }

    /// The model is ready; returns whether callers waited for the load itself.
    pub(super) fn loaded_now(&mut self, now: Duration, info: ModelInfo) -> bool {
        self.cpu.clone_from(&info.cpu);
        if let Some(engine) = &mut self.engine {
            engine.info = Some(info);
        }
        self.loads += 1;
        self.last_busy = now;
        if self.waiters.iter().any(|w| !w.sets_keep_alive) {
            self.last_used = Some(now);
        }
        let had_waiters = !self.waiters.is_empty();
        let loaded = self.loaded().unwrap_or_default().to_owned();
        self.answer_waiters(&loaded, &Ok(()));
        had_waiters
    }

    /// A model cannot be loaded. Callers that wait for another one go on waiting if that one
    /// is wanted by now.
    pub(super) fn load_failed(&mut self, model: &str, failure: &Failure) {
        if self.wanted() == Some(model) {
            self.wanted = None;
            self.failed = Some(failure.clone());
        }
        self.answer_waiters(model, &Err(failure.clone()));
    }

    /// The engine has ended; `crashed`: without having been told to.
    pub(super) fn ended(&mut self, crashed: bool) {
        self.engine = None;
        self.ends += 1;
        self.crashes += u64::from(crashed);
    }

    /// Answers those who wait for `model`. The others go on waiting for the model that is
    /// wanted; any other one was superseded.
    fn answer_waiters(&mut self, model: &str, result: &Result<(), Failure>) {
        let wanted = self.wanted.as_deref();
        let is_next =
            |waiter: &LoadWaiter| waiter.model != model && wanted == Some(waiter.model.as_str());
        let waiters = std::mem::take(&mut self.waiters);
        let (waiting, answered): (Vec<_>, Vec<_>) = waiters.into_iter().partition(is_next);
        self.waiters = waiting;
        for waiter in answered {
            let answer = if waiter.model == model {
                result.clone()
            } else {
                Err(superseded(
                    "another model was requested in the meantime: try again",
                ))
            };
            _ = waiter.sender.send(answer);
        }
    }

    /// Answers all who wait for any model.
    pub(super) fn fail_waiters(&mut self, failure: &Failure) {
        for waiter in self.waiters.drain(..) {
            _ = waiter.sender.send(Err(failure.clone()));
        }
    }

    /// Whether the running engine has to end now: it was unloaded, or another model is
    /// wanted, and its work is finished.
    pub(super) fn end_unwanted(&mut self) -> bool {
        let is_unwanted = self.loaded() != self.wanted();
        match &mut self.engine {
            Some(engine) if (is_unwanted || engine.is_ending) && engine.slots.are_closed() => {
                engine.is_ending = true;
                true
            }
            _ => false,
        }
    }

    /// The supervisor's heartbeat.
    pub(super) fn beat(&mut self, now: Duration) {
        self.heartbeat = now;
        if self.is_busy() {
            self.last_busy = now;
        }
        if self.inhibitors.are_open() {
            self.last_used = Some(now);
        }
    }

    /// A use of a model ended: from now on its keep-alive counts, as the user or the
    /// configuration sets it. `is_awaited`: other callers wait for it.
    pub(super) fn used(
        &mut self,
        now: Duration,
        model: &str,
        keep: Option<&Keep>,
        is_awaited: bool,
    ) -> Consequence {
        let Some(keep) = keep else {
            self.last_used = Some(now);
            return Consequence::None;
        };
        self.inhibitors.keep(keep, model, now, process_is_gone);
        let is_released = self
            .inhibitors
            .until(model)
            .is_some_and(|until| until <= now);
        let is_loaded = self.is_ready() && self.loaded() == Some(model);
        let is_held = is_awaited || self.inhibitors.are_open();
        if keep.is_over() && is_released && is_loaded && !is_held {
            log::info!(model = model; "unloading the model: its keep-alive has expired");
            return self.unload();
        }
        Consequence::None
    }

    /// Unloads a model that was idle for `limit` and has no inhibitor. A limit of zero means
    /// never.
    pub(super) fn unload_idle(&mut self, now: Duration, limit: Duration) -> Consequence {
        let is_due = self.is_ready()
            && !self.is_busy()
            && self.stays_until(limit).is_some_and(|until| until <= now);
        if is_due {
            self.unload()
        } else {
            Consequence::None
        }
    }

    /// When the loaded model is unloaded if it is not used again; `None`: never.
    pub(super) fn stays_until(&self, limit: Duration) -> Option<Duration> {
        if limit.is_zero() || self.inhibitors.are_open() {
            return None;
        }
        let model = self.loaded().unwrap_or_default();
        let kept = self.inhibitors.until(model)?;
        let used = self.last_used.map_or(Duration::ZERO, |used| used + limit);
        // The caller that loaded it may be about to use it.
        Some(kept.max(used).max(self.last_busy + HEARTBEAT))
    }

    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            resident: self
                .engine
                .iter()
                .map(|engine| ResidentModel {
                    name: engine.model.clone(),
                    info: engine.info.clone(),
                    pid: engine.pid,
                    note: engine.note.clone(),
                })
                .collect(),
            wanted: self.wanted.clone(),
            failed: self.failed.clone(),
            crashes: self.crashes,
            loads: self.loads,
            ends: self.ends,
            cpu: self.cpu.clone(),
        }
    }
}

/// The failure of a caller whose load was replaced by another load or an unload.
fn superseded(message: &str) -> Failure {
    Failure::new(FailureKind::Busy, message)
}

#[cfg(test)]
mod tests;
