//! One model of the pool: what is wanted of it, and its engine while one runs. No I/O; the
//! time is an argument.

use std::time::Duration;

use hearth_policy::residency::Candidate;
use hearth_proto::units::Bytes;
use hearth_proto::{Command, Failure, Limits, ModelInfo, ModelKind, Priority};
use tokio::sync::{mpsc, oneshot};

use super::HEARTBEAT;
use super::draft::LoadedDraft;
use super::load::add_note;
use super::parts::PartId;
use super::slot::{FileId, Slots};
use super::status::ResidentModel;

/// A model that is wanted, in memory, or on its way out.
#[derive(Debug, Default)]
pub(super) struct Resident {
    pub(super) engine: Option<Engine>,
    /// `None`: its engine ends as soon as it is idle.
    pub(super) wanted: Option<Wanted>,
    pub(super) waiters: Vec<LoadWaiter>,
    /// Whether a supervisor runs for it.
    pub(super) is_supervised: bool,
    /// Its supervisor pauses after a crash: others may be loaded before it.
    pub(super) is_pausing: bool,
    /// When it was last used by a caller that set no keep-alive of its own.
    pub(super) last_used: Option<Duration>,
    /// When it was last seen in use.
    pub(super) last_busy: Duration,
    /// When its supervisor last sent a heartbeat.
    pub(super) heartbeat: Duration,
    /// The highest class that used it lately, and when that was.
    used_by: Option<(Priority, Duration)>,
}

/// How long the class counts that has used a model: someone who speaks to the house in turns
/// is not to wait for a load because work in the background came between.
const CLASS_COUNTS: Duration = Duration::from_mins(1);
/// A model that is in demand serves at least this long, or as long as its load took, before it
/// makes room: else several of them would only be loaded in turn.
const TURN_MIN: Duration = Duration::from_secs(2);
/// A model that was not used for this long is not in demand.
const IN_DEMAND: Duration = Duration::from_secs(1);

/// A request for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// The highest class of those that want it: models are loaded in this order.
    pub(super) class: Priority,
    /// The number of the request that was the first to want it.
    pub(super) order: u64,
}

/// The running engine process.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// Distinguishes it from all other engines.
    pub(super) serial: u64,
    /// `None` until its process has been started.
    pub(super) pid: Option<u32>,
    pub(super) file: FileId,
    /// The adapters and the projector that were installed for the model when it was loaded.
    pub(super) parts: Vec<PartId>,
    /// What was reduced to fit the memory; empty if nothing was.
    pub(super) note: String,
    pub(super) slots: Slots,
    /// What it reported when the model was loaded.
    pub(super) info: Option<ModelInfo>,
    /// How much of the model is loaded, 0 to 1.
    pub(super) load_progress: f32,
    /// It was told to end: later requests wait for the next engine.
    pub(super) is_ending: bool,
    /// The limits that it was last told.
    pub(super) limits: Limits,
    /// The memory that it may take, by the estimate.
    pub(super) estimate: Bytes,
    /// The draft model that it has.
    pub(super) draft: Option<LoadedDraft>,
    /// Since when the model is ready, and whether it has had a slot since.
    pub(super) ready_since: Duration,
    pub(super) has_worked: bool,
}

/// A caller that waits for a model to be loaded.
#[derive(Debug)]
pub(super) struct LoadWaiter {
    pub(super) sender: oneshot::Sender<Result<(), Failure>>,
    /// The caller sets the keep-alive itself.
    pub(super) sets_keep_alive: bool,
}

impl Engine {
    /// Tells the engine its limits if they have changed.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            self.send(Command::SetLimits(limits));
        }
    }

    pub(super) fn send(&self, command: Command) {
        // An engine that has ended is noticed by its supervisor.
        _ = self.commands.send(command);
    }

    /// Releases its draft model; returns whether it had one.
    pub(super) fn release_draft(&mut self) -> bool {
        let had_one = self.draft.is_some();
        if had_one {
            self.send(Command::ReleaseDraft);
        }
        self.lose_draft("memory is short");
        had_one
    }

    /// Notes that it has no draft model any more: its memory is free.
    pub(super) fn lose_draft(&mut self, why: &str) {
        if let Some(draft) = self.draft.take() {
            self.estimate.0 = self.estimate.0.saturating_sub(draft.memory.0);
            let note = format!("without its draft model {}: {why}", draft.name);
            log::warn!("{note}");
            add_note(&mut self.note, &note);
        }
    }

    fn is_ready(&self) -> bool {
        self.info.is_some() && !self.is_ending
    }

    /// The highest class that it works on.
    pub(super) fn class(&self) -> Option<Priority> {
        self.slots.class()
    }
}

impl Resident {
    /// The engine, if it takes requests now.
    pub(super) fn ready(&self) -> Option<&Engine> {
        self.engine.as_ref().filter(|engine| engine.is_ready())
    }

    /// The same, to open a slot.
    pub(super) fn ready_mut(&mut self) -> Option<&mut Engine> {
        self.engine.as_mut().filter(|engine| engine.is_ready())
    }

    /// Whether its engine processes requests, loads the model, or ends.
    pub(super) fn is_busy(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|e| !e.is_ready() || !e.slots.are_closed())
    }

    /// Whether nothing is left to remember.
    pub(super) fn is_over(&self) -> bool {
        self.engine.is_none() && self.wanted.is_none() && !self.is_supervised
    }

    /// Whether it is to be loaded, and may be now.
    pub(super) fn waits_to_load(&self) -> Option<Wanted> {
        self.wanted
            .filter(|_| self.engine.is_none() && !self.is_pausing)
    }

    /// Wants it, from now on or still.
    pub(super) fn want(&mut self, order: u64, class: Priority) {
        let wanted = Wanted { class, order };
        let before = self.wanted.get_or_insert(wanted);
        before.class = before.class.min(class);
    }

    /// No longer wants it. What is submitted from now on is not cancelled with what runs: it
    /// waits for the next engine.
    pub(super) fn end(&mut self) {
        self.wanted = None;
        if let Some(engine) = &mut self.engine {
            engine.is_ending = true;
        }
    }

    /// Whether its engine has to end now: it is not wanted, and its work is finished.
    pub(super) fn end_unwanted(&mut self) -> bool {
        let is_unwanted = self.wanted.is_none();
        match &mut self.engine {
            Some(engine) if (is_unwanted || engine.is_ending) && engine.slots.are_closed() => {
                engine.is_ending = true;
                true
            }
            _ => false,
        }
    }

    /// The supervisor's heartbeat.
    pub(super) fn beat(&mut self, now: Duration, is_held: bool) {
        self.heartbeat = now;
        if self.is_busy() {
            self.last_busy = now;
        }
        if is_held {
            self.last_used = Some(now);
        }
    }

    /// Without an engine there is nothing to watch but the daemon's own loop, and the
    /// caller runs in it.
    pub(super) fn is_advancing(&self, now: Duration) -> bool {
        self.engine.is_none() || now.saturating_sub(self.heartbeat) < HEARTBEAT * 3
    }

    /// Answers all who wait for it.
    pub(super) fn answer_waiters(&mut self, result: &Result<(), Failure>) {
        for waiter in self.waiters.drain(..) {
            _ = waiter.sender.send(result.clone());
        }
    }

    /// Whether it is being loaded, or has not served yet as long as it may.
    pub(super) fn is_new(&self, now: Duration) -> bool {
        let Some(engine) = &self.engine else {
            return false;
        };
        let Some(info) = &engine.info else {
            return true;
        };
        let age = now.saturating_sub(engine.ready_since);
        let is_in_demand =
            !engine.slots.are_closed() || now.saturating_sub(self.last_busy) < IN_DEMAND;
        let turn = Duration::from_millis(info.load_ms).max(TURN_MIN);
        !engine.has_worked && age < HEARTBEAT || is_in_demand && age < turn
    }

    /// Records a use.
    pub(super) fn use_by(&mut self, now: Duration, class: Priority) {
        self.last_busy = now;
        let others = self.used_by(now).filter(|other| *other < class);
        if others.is_none() {
            self.used_by = Some((class, now));
        }
    }

    /// The highest class that used it lately.
    pub(super) fn used_by(&self, now: Duration) -> Option<Priority> {
        let (class, at) = self.used_by?;
        (now.saturating_sub(at) < CLASS_COUNTS).then_some(class)
    }

    /// As a model that may have to make room for another one; `None` where it frees nothing
    /// that is not on its way already.
    pub(super) fn candidate(&self, now: Duration, name: &str) -> Option<Candidate> {
        let engine = self.engine.as_ref().filter(|engine| !engine.is_ending)?;
        let is_busy = self.is_busy() || self.is_new(now);
        Some(Candidate {
            name: name.to_owned(),
            frees: engine.estimate,
            reload: Bytes(engine.file.size),
            idle: if is_busy {
                Duration::ZERO
            } else {
                now.saturating_sub(self.last_busy)
            },
            is_busy,
            is_kept: false,
            is_held: false,
        })
    }

    /// What the pool publishes of it, if there is an engine.
    pub(super) fn status(&self, name: &str) -> Option<ResidentModel> {
        let engine = self.engine.as_ref()?;
        Some(ResidentModel {
            name: name.to_owned(),
            info: engine.info.clone(),
            load_progress: engine.load_progress,
            serial: engine.serial,
            pid: engine.pid,
            note: engine.note.clone(),
            estimate: engine.estimate,
            draft: engine.draft.as_ref().map(|draft| draft.name.clone()),
            holds: 0,
            is_ending: engine.is_ending,
        })
    }

    /// Whether it is for conversations and texts, as far as is known.
    pub(super) fn generates(&self) -> bool {
        let info = self.engine.as_ref().and_then(|e| e.info.as_ref());
        info.is_none_or(|info| matches!(info.kind, ModelKind::Chat | ModelKind::Base))
    }
}
