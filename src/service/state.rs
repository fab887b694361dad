//! The service's state. Plain data and plain methods: no I/O, no waiting.

mod board;
mod entries;
mod idle;
mod limits;
mod loading;
mod status;
mod tuned;

use std::collections::HashMap;
use std::time::Duration;

use hearth_policy::holds::Holds;
use hearth_policy::quota::Quotas;
use tokio::sync::oneshot;

use super::board::Decisions;
use super::jobs::Jobs;
use super::resume::{Cause, Quarantine};
use super::sessions::Sessions;
use super::tune::Tuned;
use super::types::StreamEvent;
use super::{crashed, stopping};
use crate::governor::{Governor, GovernorSettings, Reading, Verdict};
use crate::protocol::{Command, Event, Failure, FailureKind, Limits, Priority, RequestId, Usage};
use crate::scheduler::{AGEING, Queue};
use entries::{Asked, Running};
pub(super) use entries::{Engine, FileId, Over, Waiting};
use loading::LoadWaiter;
pub(super) use status::governor_settings;

/// The supervisor sends a heartbeat at least this often while an engine runs.
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// Everything behind the service's lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) queue: Queue<RequestId, Waiting>,
    pub(super) jobs: Jobs,
    pub(super) sessions: Sessions,
    pub(super) engine: Option<Engine>,
    pub(super) draining: bool,
    pub(super) quarantine: Quarantine,
    pub(super) holds: Holds,
    /// When a model was last used by a caller that set no keep-alive of its own.
    last_used: Option<Duration>,
    /// When it was last seen in use.
    last_busy: Duration,
    /// What users have consumed.
    pub(super) quotas: Quotas,
    running: HashMap<RequestId, Running>,
    /// Commands to the engine that one event answers.
    asked: HashMap<RequestId, Asked>,
    /// The model that should be in memory.
    wanted: Option<String>,
    load_waiters: Vec<LoadWaiter>,
    failed: Option<Failure>,
    governor: Governor,
    verdict: Verdict,
    decisions: Decisions,
    temperature_celsius: f64,
    threads_max: u32,
    last_id: u64,
    tokens_per_second: f64,
    /// Tokens generated so far, those of running answers included.
    tokens_generated: u64,
    cpu: String,
    /// The running measurement.
    pub(super) tuned: Option<Tuned>,
    crashes: u64,
    beat: Duration,
}

impl Inner {
    pub(super) fn new(settings: GovernorSettings) -> Self {
        let threads_max = settings.threads_max;
        let mut governor = Governor::new(settings);
        let verdict = governor.observe(Duration::ZERO, &Reading::default());
        Self {
            queue: Queue::default(),
            jobs: Jobs::default(),
            sessions: Sessions::default(),
            engine: None,
            draining: false,
            quarantine: Quarantine::default(),
            holds: Holds::default(),
            last_used: None,
            last_busy: Duration::ZERO,
            quotas: Quotas::default(),
            running: HashMap::new(),
            asked: HashMap::new(),
            wanted: None,
            load_waiters: Vec::new(),
            failed: None,
            governor,
            verdict,
            decisions: Decisions::default(),
            temperature_celsius: 0.0,
            threads_max,
            last_id: 0,
            tokens_per_second: 0.0,
            tokens_generated: 0,
            cpu: String::new(),
            tuned: None,
            crashes: 0,
            beat: Duration::ZERO,
        }
    }

    pub(super) fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId(self.last_id)
    }

    pub(super) fn threads_max(&self) -> u32 {
        self.threads_max
    }

    pub(super) fn limits(&self) -> Limits {
        self.verdict.limits
    }

    /// The model that is loaded or being loaded.
    pub(super) fn loaded_model(&self) -> Option<&str> {
        self.engine.as_ref().map(|e| e.model.as_str())
    }

    pub(super) fn is_ready(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|e| e.info.is_some() && !e.is_ending)
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
            || !self.asked.is_empty()
            || self.engine.is_some() && !self.is_ready()
    }

    pub(super) fn wanted(&self) -> Option<&str> {
        self.wanted.as_deref()
    }

    /// Whether the running engine has to end now: another model or none is wanted, and its
    /// work is finished.
    pub(super) fn end_unwanted_engine(&mut self) -> bool {
        let is_unwanted = self.loaded_model() != self.wanted();
        let is_idle = self.running.is_empty() && self.asked.is_empty();
        match &mut self.engine {
            Some(engine) if is_unwanted && is_idle => {
                engine.is_ending = true;
                true
            }
            _ => false,
        }
    }

    /// All requests that are queued or running.
    pub(super) fn known(&self) -> impl Iterator<Item = &Waiting> {
        let waiting = self.queue.iter().map(|(_, waiting)| waiting);
        waiting.chain(self.running.values().map(|running| &running.waiting))
    }

    /// Running prewarms, except those being cancelled.
    pub(super) fn running_prewarms(&self) -> impl Iterator<Item = RequestId> {
        let running = self.running.values();
        let prewarms = running.filter(|r| r.waiting.request.prewarm && r.failure.is_none());
        prewarms.map(|r| r.waiting.request.id)
    }

    /// Without an engine there is nothing to watch but the daemon's own loop, and the
    /// caller runs in it.
    pub(super) fn is_advancing(&self, now: Duration) -> bool {
        self.engine.is_none() || now.saturating_sub(self.beat) < BEAT * 3
    }

    /// Sets that no model is wanted; running requests are cancelled.
    pub(super) fn unload(&mut self) {
        self.wanted = None;
        self.failed = None;
        self.holds.forget_wishes();
        let ids: Vec<RequestId> = self.running.keys().copied().collect();
        for id in ids {
            self.cancel(id, Failure::cancelled());
        }
    }

    pub(super) fn begin_drain(&mut self, failure: &Failure) {
        self.draining = true;
        self.cancel_prewarms();
        for waiting in self.queue.drain_where(|_| true) {
            waiting.fail(failure.clone());
        }
    }

    /// Sends the engine a command that is answered by one event.
    pub(super) fn ask(
        &mut self,
        command: impl FnOnce(RequestId) -> Command,
        sender: oneshot::Sender<Result<Event, Failure>>,
        keeps: bool,
    ) -> Result<(), Failure> {
        let id = self.next_id();
        let engine = self.engine.as_ref().ok_or_else(crashed)?;
        let sent = engine.commands.send(command(id));
        sent.map_err(|_| crashed())?;
        self.asked.insert(id, Asked { sender, keeps });
        Ok(())
    }

    /// Ends a request; returns it if it was only queued.
    pub(super) fn cancel(&mut self, id: RequestId, failure: Failure) -> Option<Waiting> {
        if let Some(waiting) = self.queue.remove(id) {
            waiting.fail(failure);
            return Some(waiting);
        }
        if let Some(running) = self.running.get_mut(&id) {
            running.failure.get_or_insert(failure);
            if let Some(engine) = &self.engine {
                _ = engine.commands.send(Command::Cancel { id });
            }
        }
        None
    }

    /// Changes the class of a queued request; returns whether it was queued.
    pub(super) fn set_priority(&mut self, id: RequestId, priority: Priority) -> bool {
        let Some(waiting) = self.queue.get_mut(id) else {
            return false;
        };
        waiting.request.priority = priority;
        self.queue.set_priority(id, priority);
        true
    }

    /// Sends the engine what it can take; returns whether the supervisor has to act: an
    /// engine is wanted, or another one.
    pub(super) fn pump(&mut self, now: Duration) -> bool {
        self.drop_stale_prewarms();
        let Some(next) = self.queue.peek(now).map(|w| w.model.clone()) else {
            return false;
        };
        if self.loaded_model() != Some(&next) {
            self.cancel_prewarms();
            self.tell_positions(now);
            // A running answer is finished before its model is unloaded.
            if self.running.is_empty() && self.wanted() != Some(&next) {
                self.failed = None;
                self.wanted = Some(next);
                return true;
            }
            return false;
        }
        while self.next_may_go(now) {
            let (Some(mut waiting), Some(engine)) = (self.queue.pop(now), &self.engine) else {
                break;
            };
            let began_with = *waiting.file.get_or_insert(engine.file);
            if began_with != engine.file && !waiting.progress.tokens.is_empty() {
                waiting.fail(replaced());
                continue;
            }
            waiting.file = Some(engine.file);
            let mut request = waiting.request.clone();
            request.priority = class(&waiting, now);
            request.resume.clone_from(&waiting.progress.tokens);
            _ = engine.commands.send(Command::Generate(request));
            let running = Running {
                class: class(&waiting, now),
                began: false,
                from_disk: false,
                waiting,
                first_token: None,
                failure: None,
            };
            self.running.insert(running.waiting.request.id, running);
        }
        self.tell_positions(now);
        false
    }

    /// Whether the next request in the queue can be sent now. Of each class and those
    /// above, as many are in the engine as it has slots, so that a higher one always finds
    /// a slot; a preempted one keeps its own. A request that may have crashed the engine
    /// runs alone.
    fn next_may_go(&self, now: Duration) -> bool {
        let Some(next) = self.queue.peek(now) else {
            return false;
        };
        let engine = self.engine.as_ref().filter(|e| !e.is_ending);
        let info = engine.and_then(|e| e.info.as_ref());
        let (Some(info), Some(loaded)) = (info, self.loaded_model()) else {
            return false;
        };
        let is_suspect = |waiting: &Waiting| waiting.progress.is_suspect();
        if next.model != loaded
            || self.running.values().any(|r| is_suspect(&r.waiting))
            || is_suspect(next) && !self.running.is_empty()
        {
            return false;
        }
        let wanted = class(next, now);
        let ahead = self.running.values();
        let ahead = ahead.filter(|r| r.class <= wanted);
        let slots = match self.verdict.limits.slots {
            0 => info.slots,
            fewer => fewer.min(info.slots),
        };
        ahead.count() < slots as usize
    }

    fn tell_positions(&mut self, now: Duration) {
        let keys: Vec<RequestId> = self.queue.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(position) = self.queue.position(now, key) else {
                continue;
            };
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            if let Some(waiting) = self.queue.get_mut(key)
                && waiting.position != Some(position)
            {
                waiting.position = Some(position);
                _ = waiting.events.send(StreamEvent::Queued { position });
            }
        }
    }

    /// Routes an event of the engine; returns the request that it ends.
    pub(super) fn route(&mut self, now: Duration, event: Event) -> Option<Over> {
        self.charge(now, &event);
        match event {
            Event::Started {
                id,
                prompt_tokens,
                cached_tokens,
                from_disk,
            } => {
                let running = self.running.get_mut(&id);
                // The caller need not know that it was started again.
                let is_first = running.is_some_and(|r| {
                    r.began = true;
                    r.from_disk |= from_disk;
                    !std::mem::replace(&mut r.waiting.progress.is_started, true)
                });
                if is_first {
                    self.emit(
                        id,
                        StreamEvent::Started {
                            prompt_tokens,
                            cached_tokens,
                        },
                    );
                }
            }
            Event::Prefill { id, done } => self.emit(id, StreamEvent::Prefill { done }),
            Event::Token {
                id,
                parts,
                generated,
                logprobs,
                tokens,
            } => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.first_token.get_or_insert(now);
                    running.waiting.progress.advance(&tokens);
                }
                self.tokens_generated += tokens.len() as u64;
                self.emit(
                    id,
                    StreamEvent::Token {
                        parts,
                        generated,
                        logprobs,
                    },
                );
            }
            Event::Finished { id, reason, usage } => {
                if usage.completion_tokens > 0 {
                    self.tokens_per_second = usage.tokens_per_second();
                }
                return self.end(now, id, StreamEvent::Finished { reason, usage }, Ok(usage));
            }
            Event::Failed { id, failure } => {
                if let Some(asked) = self.asked.remove(&id) {
                    _ = asked.sender.send(Err(failure));
                    return None;
                }
                let instead = self.running.get_mut(&id).and_then(|r| r.failure.take());
                let failure = instead.unwrap_or(failure);
                return self.end(now, id, StreamEvent::Failed(failure.clone()), Err(failure));
            }
            Event::Tokenized { id, .. }
            | Event::Detokenized { id, .. }
            | Event::Embedded { id, .. } => {
                if let Some(asked) = self.asked.remove(&id) {
                    _ = asked.sender.send(Ok(event));
                    if !asked.keeps {
                        self.used(now, "", None);
                    }
                }
            }
            Event::Loaded(info) => self.loaded(now, info),
            Event::Hello { .. }
            | Event::Loading { .. }
            | Event::LoadFailed(_)
            | Event::Pong { .. } => {}
        }
        None
    }

    fn emit(&self, id: RequestId, event: StreamEvent) {
        if let Some(running) = self.running.get(&id) {
            // Dropping the stream cancels the request.
            _ = running.waiting.events.send(event);
        }
    }

    fn end(
        &mut self,
        now: Duration,
        id: RequestId,
        event: StreamEvent,
        result: Result<Usage, Failure>,
    ) -> Option<Over> {
        let running = self.running.remove(&id)?;
        _ = running.waiting.events.send(event);
        if !running.waiting.request.prewarm {
            let waiting = &running.waiting;
            self.used(now, &waiting.model, waiting.keep.as_ref());
        }
        let submitted = running.waiting.submitted;
        Some(Over {
            id,
            uid: running.waiting.uid,
            user: running.waiting.request.uid,
            sender: running.waiting.sender,
            unit: running.waiting.unit,
            charged: running.waiting.charged.total(),
            model: running.waiting.model,
            from_disk: running.from_disk,
            waited: now.saturating_sub(submitted),
            first_token: running.first_token.map(|t| t.saturating_sub(submitted)),
            result,
        })
    }

    /// The engine has ended. Its requests wait for the next one and continue where they
    /// were; one fails if its cancellation was requested, or if it killed the engine too
    /// often.
    pub(super) fn engine_ended(&mut self, now: Duration, cause: Option<Cause>) -> Vec<Over> {
        self.engine = None;
        self.crashes += u64::from(cause.is_some());
        for (_, asked) in self.asked.drain() {
            _ = asked.sender.send(Err(crashed()));
        }
        let ids: Vec<RequestId> = self.running.keys().copied().collect();
        ids.into_iter()
            .filter_map(|id| self.survive(now, id, cause))
            .collect()
    }

    fn survive(&mut self, now: Duration, id: RequestId, cause: Option<Cause>) -> Option<Over> {
        let running = self.running.get_mut(&id)?;
        let (progress, began) = (&mut running.waiting.progress, running.began);
        let given_up = cause.is_none_or(|cause| progress.strike(cause, began));
        let asked = running.failure.take();
        if asked.is_none() && given_up && cause.is_some() {
            self.quarantine.add(now, &running.waiting.request);
        }
        if asked.is_some() || given_up {
            let failure = asked.unwrap_or_else(crashed);
            return self.end(now, id, StreamEvent::Failed(failure.clone()), Err(failure));
        }
        let mut waiting = self.running.remove(&id)?.waiting;
        waiting.position = None;
        let (since, class) = (waiting.submitted, waiting.request.priority);
        let caller = waiting.caller();
        self.queue.push(since, id, class, caller, waiting);
        None
    }

    /// Fails the requests that are still queued when the service ends.
    pub(super) fn abandon(&mut self) {
        self.begin_drain(&stopping());
        self.answer_waiters(&Err(stopping()));
    }
}

/// A queued request's class after its waiting time.
fn class(waiting: &Waiting, now: Duration) -> Priority {
    let waited = now.saturating_sub(waiting.submitted);
    waiting.request.priority.aged(waited, AGEING)
}

fn replaced() -> Failure {
    Failure::new(
        FailureKind::EngineCrashed,
        "the engine ended in the middle of this answer, and the model file is another one now: ask again",
    )
}
