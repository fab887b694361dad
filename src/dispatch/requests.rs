//! All requests: queued, running, and the tokens that users have consumed. No I/O; the
//! time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use hearth_policy::quota::Quotas;
use hearth_policy::scheduler::Queue;
use hearth_proto::{Event, Failure, Priority, RequestId, StreamEvent, Usage};

use super::QueueStatus;
use super::accept::in_constraint;
use super::entry::{Completed, PendingCommand, Running, Waiting};
use super::resume::Quarantine;
use crate::engines::{Death, engine_died};

/// Everything behind the dispatcher's lock.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Distinguishes the ids of this run of the daemon from those of others.
    run: u32,
    pub(super) queue: Queue<RequestId, Waiting>,
    pub(super) running: HashMap<RequestId, Running>,
    /// Commands that one event answers.
    pub(super) pending_commands: HashMap<RequestId, PendingCommand>,
    pub(super) quarantine: Quarantine,
    /// What users have consumed.
    pub(super) quotas: Quotas,
    pub(super) draining: bool,
    /// Ends of engines that have been handled.
    pub(super) ends_handled: u64,
    last_number: u32,
    tokens_per_second: f64,
    /// Tokens generated so far, those of running answers included.
    pub(super) tokens_generated: u64,
}

/// What an event of an engine completes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// A request.
    pub(super) completed: Option<Completed>,
    /// The model of a command whose caller set no keep-alive.
    pub(super) used: Option<String>,
}

impl Requests {
    /// No requests yet, in this run of the daemon.
    pub(super) fn of_run(run: u32) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }

    pub(super) fn next_id(&mut self) -> RequestId {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_id()
    }

    /// The last id assigned: the next request has the following one.
    pub(super) fn last_id(&self) -> RequestId {
        RequestId::new(self.run, self.last_number)
    }

    /// Whether no request is queued or running.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty() && self.pending_commands.is_empty()
    }

    /// All requests that are queued or running.
    pub(super) fn known(&self) -> impl Iterator<Item = &Waiting> {
        let waiting = self.queue.iter().map(|(_, waiting)| waiting);
        waiting.chain(self.running.values().map(|running| &running.waiting))
    }

    /// Queued requests without the configured prompts, which take no place in the queue's
    /// limit.
    pub(super) fn queued_by_callers(&self) -> usize {
        let waiting = self.queue.iter();
        waiting.filter(|(_, w)| !w.is_configured_prompt()).count()
    }

    /// Whether a caller waits for an answer of a model; the configured prompts have no caller.
    pub(super) fn is_awaited(&self, model: &str) -> bool {
        let mut commands = self.pending_commands.values();
        let mut known = self.known();
        commands.any(|command| command.model == model)
            || known.any(|w| w.model == model && !w.is_configured_prompt())
    }

    pub(super) fn status(&self) -> QueueStatus {
        QueueStatus {
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            running: u32::try_from(self.running.len()).unwrap_or(u32::MAX),
            tokens_per_second: self.tokens_per_second,
            draining: self.draining,
        }
    }

    /// Ends a request; returns it if it was only queued.
    pub(super) fn cancel(&mut self, id: RequestId, failure: Failure) -> Option<Waiting> {
        if let Some(waiting) = self.queue.remove(id) {
            waiting.fail(failure);
            return Some(waiting);
        }
        if let Some(running) = self.running.get_mut(&id) {
            running.cancel(failure);
        }
        None
    }

    /// Cancels the running requests of a model, or all.
    pub(super) fn cancel_running(&mut self, failure: &Failure, model: Option<&str>) {
        for running in self.running.values_mut() {
            if model.is_none_or(|model| running.waiting.model == model) {
                running.cancel(failure.clone());
            }
        }
    }

    /// Fails all queued requests for which `condition` returns true.
    pub(super) fn fail_queued(
        &mut self,
        condition: impl FnMut(&Waiting) -> bool,
        failure: &Failure,
    ) {
        for waiting in self.queue.drain_where(condition) {
            waiting.fail(failure.clone());
        }
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

    /// Reports changed queue positions to the callers.
    pub(super) fn report_positions(&mut self, now: Duration) {
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

    /// Routes an event of an engine to its request. Longer than a screen: an arm for each
    /// event.
    pub(super) fn route(&mut self, now: Duration, event: Event) -> Outcome {
        self.charge(now, &event);
        match event {
            Event::Started {
                id,
                prompt_tokens,
                cached_tokens,
                from_disk,
            } => {
                let event = StreamEvent::Started {
                    prompt_tokens,
                    cached_tokens,
                };
                // A restart after a crash is not reported to the caller.
                if self.is_first_start(id, from_disk) {
                    self.emit(id, event);
                }
            }
            Event::Prefill { id, done, logprobs } => {
                self.emit(id, StreamEvent::Prefill { done, logprobs });
            }
            Event::Token {
                id,
                parts,
                generated,
                logprobs,
                tokens,
            } => {
                self.advance(now, id, &tokens);
                let event = StreamEvent::Token {
                    parts,
                    generated,
                    tokens,
                    logprobs,
                };
                self.emit(id, event);
            }
            Event::Finished {
                id,
                reason,
                stop_string,
                usage,
            } => {
                if usage.completion_tokens > 0 {
                    self.tokens_per_second = usage.tokens_per_second();
                }
                let event = StreamEvent::Finished {
                    reason,
                    stop_string,
                    usage,
                };
                return self.end(now, id, event, Ok(usage));
            }
            Event::Failed { id, failure } => {
                if let Some(pending) = self.pending_commands.remove(&id) {
                    _ = pending.sender.send(Err(failure));
                    return Outcome::default();
                }
                let running = self.running.get_mut(&id);
                let failure = match running {
                    None => failure,
                    Some(running) => match running.failure.take() {
                        Some(instead) => instead,
                        None => in_constraint(failure, &running.waiting.request),
                    },
                };
                return self.fail(now, id, failure);
            }
            Event::Tokenized { id, .. }
            | Event::Detokenized { id, .. }
            | Event::Rendered { id, .. }
            | Event::Embedded { id, .. }
            | Event::Ranked { id, .. } => return self.answer(id, event),
            // The pool handles these.
            Event::Loaded(_)
            | Event::Hello { .. }
            | Event::Loading { .. }
            | Event::LoadFailed(_)
            | Event::Pong { .. } => {}
        }
        Outcome::default()
    }

    /// Records that an engine has started a request; returns whether it is the first.
    fn is_first_start(&mut self, id: RequestId, from_disk: bool) -> bool {
        self.running.get_mut(&id).is_some_and(|running| {
            running.began = true;
            running.from_disk |= from_disk;
            !std::mem::replace(&mut running.waiting.progress.is_started, true)
        })
    }

    /// Records generated tokens.
    fn advance(&mut self, now: Duration, id: RequestId, tokens: &[i32]) {
        if let Some(running) = self.running.get_mut(&id) {
            running.first_token.get_or_insert(now);
            running.waiting.progress.advance(tokens);
        }
        self.tokens_generated += tokens.len() as u64;
    }

    fn emit(&self, id: RequestId, event: StreamEvent) {
        if let Some(running) = self.running.get(&id) {
            // Dropping the stream cancels the request.
            _ = running.waiting.events.send(event);
        }
    }

    /// Answers a command.
    fn answer(&mut self, id: RequestId, event: Event) -> Outcome {
        let Some(pending) = self.pending_commands.remove(&id) else {
            return Outcome::default();
        };
        _ = pending.sender.send(Ok(event));
        Outcome {
            completed: None,
            used: Some(pending.model).filter(|_| !pending.sets_keep_alive),
        }
    }

    fn fail(&mut self, now: Duration, id: RequestId, failure: Failure) -> Outcome {
        let event = StreamEvent::Failed(failure.clone());
        self.end(now, id, event, Err(failure))
    }

    fn end(
        &mut self,
        now: Duration,
        id: RequestId,
        event: StreamEvent,
        result: Result<Usage, Failure>,
    ) -> Outcome {
        let Some(running) = self.running.remove(&id) else {
            return Outcome::default();
        };
        let (waiting, first_token) = (running.waiting, running.first_token);
        _ = waiting.events.send(event);
        let completed = Completed {
            id,
            user: waiting.request.uid,
            is_prewarm: waiting.request.prewarm,
            caller: waiting.caller,
            charged: waiting.charged.total(),
            model: waiting.model,
            from_disk: running.from_disk,
            waited: now.saturating_sub(waiting.submitted),
            first_token: first_token.map(|t| t.saturating_sub(waiting.submitted)),
            result,
        };
        Outcome {
            completed: Some(completed),
            used: None,
        }
    }

    /// The engine of a model has ended. Its requests wait for the next one and continue where
    /// they were; one fails if its cancellation was requested, or if it killed the engine too
    /// often. Returns those that ended.
    pub(super) fn engine_ended(
        &mut self,
        now: Duration,
        model: &str,
        death: Option<Death>,
    ) -> Vec<Completed> {
        let commands = self.pending_commands.extract_if(|_, c| c.model == model);
        for (_, pending) in commands {
            _ = pending.sender.send(Err(engine_died()));
        }
        let own = self
            .running
            .iter()
            .filter(|(_, r)| r.waiting.model == model);
        let ids: Vec<RequestId> = own.map(|(id, _)| *id).collect();
        ids.into_iter()
            .filter_map(|id| self.requeue(now, id, death).completed)
            .collect()
    }

    fn requeue(&mut self, now: Duration, id: RequestId, death: Option<Death>) -> Outcome {
        let Some(running) = self.running.get_mut(&id) else {
            return Outcome::default();
        };
        let (progress, began) = (&mut running.waiting.progress, running.began);
        let is_abandoned = death.is_none_or(|death| progress.record_death(death, began));
        let requested = running.failure.take();
        if requested.is_none() && is_abandoned && death.is_some() {
            self.quarantine.add(now, &running.waiting.request);
        }
        if requested.is_some() || is_abandoned {
            return self.fail(now, id, requested.unwrap_or_else(engine_died));
        }
        if let Some(running) = self.running.remove(&id) {
            let mut waiting = running.waiting;
            waiting.position = None;
            let (since, class) = (waiting.submitted, waiting.request.priority);
            let caller = waiting.fair_caller();
            self.queue.push(since, id, class, caller, waiting);
        }
        Outcome::default()
    }
}
