//! Loading: whose turn it is, what may make room, and how a load goes on.

use std::time::Duration;

use hearth_policy::residency::Candidate;
use hearth_proto::units::Bytes;
use hearth_proto::{Command, Failure, Limits, ModelInfo};
use tokio::sync::mpsc;

use super::Residency;
use crate::engines::resident::{Engine, Resident};

/// Whether a model may be loaded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engines) enum Turn {
    /// It is its turn.
    Now,
    /// Another model comes first.
    Later,
    /// It is no longer wanted.
    Never,
}

/// The memory that an engine may take, and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engines) struct Footprint {
    pub(in crate::engines) pid: Option<u32>,
    pub(in crate::engines) estimate: Bytes,
    /// Whether it is on its way out: its memory is free soon.
    pub(in crate::engines) is_ending: bool,
}

impl Residency {
    /// Whether a model is the next one to be loaded: the one of the highest class, and of
    /// these the one that was wanted first.
    pub(in crate::engines) fn turn(&self, model: &str) -> Turn {
        let Some(own) = self.get(model).and_then(Resident::waits_to_load) else {
            return Turn::Never;
        };
        let waiting = self.models.iter();
        let mut waiting =
            waiting.filter_map(|(name, model)| Some((model.waits_to_load()?, name.as_str())));
        if waiting.any(|other| other < (own, model)) {
            Turn::Later
        } else {
            Turn::Now
        }
    }

    /// The models that may have to make room, and which of them may not.
    pub(in crate::engines) fn candidates(&self, now: Duration) -> Vec<Candidate> {
        let models = self.models.iter();
        let candidates = models.filter_map(|(name, model)| {
            let mut candidate = model.candidate(now, name)?;
            candidate.is_held = self.is_held(name);
            candidate.is_kept = self.holds.of(name, now).next().is_some();
            Some(candidate)
        });
        candidates.collect()
    }

    /// Whether a model was used lately by a higher class than that for which another one is
    /// to be loaded.
    pub(in crate::engines) fn is_above(&self, now: Duration, model: &str, loaded: &str) -> bool {
        let class = self.get(loaded).and_then(|resident| resident.wanted);
        let used_by = self.get(model).and_then(|resident| resident.used_by(now));
        let pair = used_by.zip(class);
        pair.is_some_and(|(used_by, wanted)| used_by < wanted.class)
    }

    /// The time since the last end of an engine.
    pub(in crate::engines) fn since_last_end(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_end)
    }

    /// The memory of all engines.
    pub(in crate::engines) fn footprints(&self) -> Vec<Footprint> {
        let footprints = self.engines().map(|(_, engine)| Footprint {
            pid: engine.pid,
            estimate: engine.estimate,
            is_ending: engine.is_ending,
        });
        footprints.collect()
    }

    /// Reserves the memory of a model that is about to be loaded, by its engine without a
    /// process.
    pub(in crate::engines) fn admitted(&mut self, now: Duration, model: &str, engine: Engine) {
        self.admissions += 1;
        let serial = self.admissions;
        let resident = self.entry(model);
        resident.engine = Some(Engine { serial, ..engine });
        resident.beat(now, false);
    }

    /// The engine's process was started.
    pub(in crate::engines) fn started(&mut self, now: Duration, model: &str, pid: Option<u32>) {
        let resident = self.entry(model);
        if let Some(engine) = &mut resident.engine {
            engine.pid = pid;
        }
        resident.beat(now, false);
    }

    /// The engine was told to load the model; commands can follow.
    pub(in crate::engines) fn loading(
        &mut self,
        model: &str,
        commands: mpsc::UnboundedSender<Command>,
        limits: Limits,
    ) {
        if let Some(engine) = &mut self.entry(model).engine {
            engine.commands = commands;
            engine.limits = limits;
        }
    }

    /// How much of a model is loaded.
    pub(in crate::engines) fn load_progress(&mut self, model: &str, share: f32) {
        if let Some(engine) = &mut self.entry(model).engine {
            engine.load_progress = share;
        }
    }

    /// A caller no longer waits for a model: it is not loaded unless others do.
    pub(in crate::engines) fn cancel_load(&mut self, now: Duration, model: &str, is_awaited: bool) {
        let is_held = self.is_held(model) || self.holds.of(model, now).next().is_some();
        let Some(resident) = self.models.get_mut(model) else {
            return;
        };
        resident.waiters.retain(|waiter| !waiter.sender.is_closed());
        let is_needed = is_awaited || is_held || !resident.waiters.is_empty();
        if resident.ready().is_none() && !is_needed {
            log::info!(model = model; "no longer loading the model: its load was cancelled");
            self.unload(model);
        }
    }

    /// The model is ready; returns whether callers waited for the load itself.
    pub(in crate::engines) fn loaded_now(
        &mut self,
        now: Duration,
        model: &str,
        info: ModelInfo,
    ) -> bool {
        self.cpu.clone_from(&info.cpu);
        self.loads += 1;
        let resident = self.entry(model);
        if let Some(engine) = &mut resident.engine {
            if !info.draft_problem.is_empty() {
                engine.lose_draft(&info.draft_problem);
            }
            engine.info = Some(info);
            engine.ready_since = now;
        }
        resident.last_busy = now;
        if resident.waiters.iter().any(|w| !w.sets_keep_alive) {
            resident.last_used = Some(now);
        }
        let had_waiters = !resident.waiters.is_empty();
        resident.answer_waiters(&Ok(()));
        had_waiters
    }

    /// A model cannot be loaded.
    pub(in crate::engines) fn load_failed(&mut self, model: &str, failure: &Failure) {
        let resident = self.entry(model);
        let was_wanted = resident.wanted.take().is_some();
        resident.answer_waiters(&Err(failure.clone()));
        self.end_inhibitors(model);
        if was_wanted {
            self.failed = Some(failure.clone());
        }
    }

    /// The engine has ended; `crashed`: without having been told to.
    pub(in crate::engines) fn ended(&mut self, now: Duration, model: &str, crashed: bool) {
        // There is none where the model was refused.
        if self.entry(model).engine.take().is_some() {
            self.last_end = now;
        }
        self.ends += 1;
        self.crashes += u64::from(crashed);
    }
}
