//! Which models are in memory and which are to be. No I/O; the time is an argument.

mod loads;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hearth_policy::governor::divide;
use hearth_policy::holds::Holds;
use hearth_proto::{Command, Failure, FailureKind, Limits, Priority};
use tokio::sync::oneshot;

use super::event::PoolEvent;
use super::resident::{Engine, LoadWaiter, Resident};
use super::slot::Slot;
use super::status::{PoolStatus, ResidentModel};
use super::stopping;
use crate::board::Activity;
pub(super) use loads::{Footprint, Turn};

/// The state of the pool.
#[derive(Debug, Default)]
pub(super) struct Residency {
    pub(super) models: BTreeMap<String, Resident>,
    pub(super) holds: Holds,
    /// Tell the owners of inhibitors, by cookie, when these end without them.
    pub(super) inhibitor_ends: HashMap<u32, oneshot::Sender<()>>,
    /// The models that the configuration keeps in memory.
    pub(super) pinned: Vec<String>,
    failed: Option<Failure>,
    crashes: u64,
    admissions: u64,
    wants: u64,
    loads: u64,
    /// Engines that have ended, and when the last one did.
    ends: u64,
    last_end: Duration,
    cpu: String,
    /// The daemon finishes running answers: nothing is loaded or unloaded on request.
    draining: bool,
    stopping: bool,
    /// What is to be reported, in order.
    pub(super) events: Vec<PoolEvent>,
}

/// A model that is ready for requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadyModel {
    /// Its name.
    pub(crate) name: String,
    /// Requests that its engine works on at once.
    pub(crate) slots: u32,
}

impl Residency {
    pub(super) fn get(&self, model: &str) -> Option<&Resident> {
        self.models.get(model)
    }

    /// The model, also where nothing is known of it yet.
    pub(super) fn entry(&mut self, model: &str) -> &mut Resident {
        self.models.entry(model.to_owned()).or_default()
    }

    fn engines(&self) -> impl Iterator<Item = (&str, &Engine)> {
        let models = self.models.iter();
        models.filter_map(|(name, model)| Some((name.as_str(), model.engine.as_ref()?)))
    }

    /// What is to be reported since the last call.
    pub(super) fn take_events(&mut self) -> Vec<PoolEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn is_ready(&self, model: &str) -> bool {
        self.get(model).is_some_and(|model| model.ready().is_some())
    }

    pub(super) fn is_wanted(&self, model: &str) -> bool {
        self.get(model).is_some_and(|model| model.wanted.is_some())
    }

    /// The models that take requests now.
    pub(super) fn ready(&self) -> Vec<ReadyModel> {
        let models = self.models.iter();
        let ready = models.filter_map(|(name, model)| {
            Some(ReadyModel {
                name: name.clone(),
                slots: model.ready()?.info.as_ref()?.slots,
            })
        });
        ready.collect()
    }

    /// Opens a slot of a model that is ready; its engine knows its limits before the work.
    pub(super) fn slot(
        &mut self,
        now: Duration,
        model: &str,
        class: Priority,
        limits: &Limits,
    ) -> Option<Slot> {
        let resident = self.models.get_mut(model)?;
        let engine = resident.ready_mut()?;
        engine.has_worked = true;
        let slot = engine
            .slots
            .open(class, engine.commands.clone(), engine.file);
        resident.use_by(now, class);
        self.divide(now, limits);
        Some(slot)
    }

    /// Divides the limits between the engines, and tells them. Returns until when that
    /// applies, if the engines' work does not change before.
    pub(super) fn divide(&mut self, now: Duration, limits: &Limits) -> Option<Duration> {
        let models = self.models.values_mut();
        let mut engines: Vec<&mut Engine> =
            models.filter_map(|model| model.engine.as_mut()).collect();
        let work: Vec<Option<Priority>> = engines.iter().map(|engine| engine.class()).collect();
        let division = divide(now, limits, &work);
        for (engine, limits) in engines.iter_mut().zip(division.limits) {
            engine.set_limits(limits);
        }
        division.until
    }

    /// Releases the draft models of all engines; returns whether there were such.
    pub(super) fn release_drafts(&mut self) -> bool {
        let models = self.models.values_mut();
        let mut any = false;
        for engine in models.filter_map(|model| model.engine.as_mut()) {
            any |= engine.release_draft();
        }
        any
    }

    /// Sends all engines a command that no event answers.
    pub(super) fn broadcast(&self, command: &Command) {
        for (_, engine) in self.engines() {
            engine.send(command.clone());
        }
    }

    /// Sends the engines that work, or the idle ones, a command that no event answers; returns
    /// whether there are such.
    pub(super) fn send_where(&self, is_busy: bool, command: &Command) -> bool {
        let mut any = false;
        for (_, engine) in self.engines() {
            if engine.slots.are_closed() != is_busy {
                engine.send(command.clone());
                any = true;
            }
        }
        any
    }

    /// Whether an engine processes requests or loads a model.
    pub(super) fn is_busy(&self) -> bool {
        self.models.values().any(Resident::is_busy)
    }

    pub(super) fn activity(&self) -> Activity {
        match self.engines().next() {
            None => Activity::None,
            Some(_) if self.is_busy() => Activity::Busy,
            Some(_) => Activity::Idle,
        }
    }

    pub(super) fn is_advancing(&self, now: Duration) -> bool {
        self.models.values().all(|model| model.is_advancing(now))
    }

    /// Requests a model; the waiter is notified when it is ready or cannot be loaded.
    /// `sets_keep_alive`: the caller sets the keep-alive itself.
    pub(super) fn want(
        &mut self,
        model: &str,
        class: Priority,
        waiter: Option<oneshot::Sender<Result<(), Failure>>>,
        sets_keep_alive: bool,
    ) {
        self.failed = None;
        self.wants += 1;
        let order = self.wants;
        let resident = self.entry(model);
        if let Some(sender) = waiter {
            if resident.ready().is_some() {
                _ = sender.send(Ok(()));
            } else {
                resident.waiters.push(LoadWaiter {
                    sender,
                    sets_keep_alive,
                });
            }
        }
        resident.want(order, class);
    }

    /// Sets that a model is not wanted, and tells those who wait for it.
    pub(super) fn unload(&mut self, model: &str) {
        self.holds.forget_wishes(model);
        self.end_inhibitors(model);
        let Some(resident) = self.models.get_mut(model) else {
            return;
        };
        resident.answer_waiters(&Err(superseded()));
        resident.end();
        self.failed = None;
        self.events.push(PoolEvent::Unloading {
            model: model.to_owned(),
        });
        self.forget_if_over(model);
    }

    /// The same for all models.
    pub(super) fn unload_all(&mut self) {
        let names: Vec<String> = self.models.keys().cloned().collect();
        for name in names {
            self.unload(&name);
        }
        self.failed = None;
    }

    /// Has a model make room for another one: it takes no new requests, and leaves the memory
    /// when the running ones have ended.
    pub(super) fn retire(&mut self, model: &str) {
        if let Some(resident) = self.models.get_mut(model) {
            resident.end();
            self.events.push(PoolEvent::Retiring {
                model: model.to_owned(),
            });
        }
    }

    /// The same, but not before it has served for what it was loaded; returns whether it did.
    pub(super) fn retire_when_worked(&mut self, now: Duration, model: &str) -> bool {
        let has_served = self
            .get(model)
            .is_some_and(|resident| !resident.is_new(now));
        if has_served {
            log::info!(model = model; "making room for another model");
            self.retire(model);
        }
        has_served
    }

    /// Refuses requests to load and unload from now on.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining || self.stopping
    }

    /// Unloads all models, and loads no other one afterwards.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.fail_waiters(&stopping());
        self.unload_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The models that are wanted and have no supervisor, which they get now.
    pub(super) fn supervise(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, model) in &mut self.models {
            if model.wanted.is_some() && !model.is_supervised {
                model.is_supervised = true;
                names.push(name.clone());
            }
        }
        names
    }

    /// A supervisor has ended.
    pub(super) fn unsupervised(&mut self, model: &str) {
        self.entry(model).is_supervised = false;
        self.forget_if_over(model);
    }

    fn forget_if_over(&mut self, model: &str) {
        if self.models.get(model).is_some_and(Resident::is_over) {
            self.models.remove(model);
        }
    }

    /// Answers all who wait for any model.
    pub(super) fn fail_waiters(&mut self, failure: &Failure) {
        for model in self.models.values_mut() {
            model.answer_waiters(&Err(failure.clone()));
        }
    }

    /// Whether an engine has to end now.
    pub(super) fn end_unwanted(&mut self, model: &str) -> bool {
        self.entry(model).end_unwanted()
    }

    pub(super) fn status(&self) -> PoolStatus {
        let mut order: Vec<(&String, &Resident)> = self.models.iter().collect();
        order.sort_by_key(|(_, model)| (!model.generates(), std::cmp::Reverse(model.last_busy)));
        let wanted = self.models.iter();
        let wanted = wanted.filter(|(_, model)| model.wanted.is_some() && model.engine.is_none());
        PoolStatus {
            resident: order
                .into_iter()
                .filter_map(|(name, model)| {
                    Some(ResidentModel {
                        holds: self.holds.count(name),
                        ..model.status(name)?
                    })
                })
                .collect(),
            wanted: wanted.map(|(name, _)| name.clone()).collect(),
            failed: self.failed.clone(),
            crashes: self.crashes,
            loads: self.loads,
            ends: self.ends,
            cpu: self.cpu.clone(),
        }
    }
}

/// The failure of a caller whose load was ended by an unload.
fn superseded() -> Failure {
    Failure::new(
        FailureKind::Busy,
        "the model was unloaded in the meantime: try again",
    )
}

#[cfg(test)]
mod tests;
