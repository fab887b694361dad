//! The dispatcher's task: handles the events of the pool and the states of the board.

use hearth_policy::governor::MemoryState;
use hearth_proto::{Event, Failure};
use tokio::sync::mpsc;

use super::Dispatcher;
use super::entry::Completed;
use super::requests::{Outcome, Requests};
use crate::board::memory_short;
use crate::engines::PoolEvent;

impl Dispatcher {
    /// Handles the events of the pool until it stops.
    pub async fn run(&self, mut events: mpsc::UnboundedReceiver<PoolEvent>) {
        let mut board = self.shared.board.subscribe();
        let (mut memory, mut slots) = (MemoryState::Normal, 0);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None | Some(PoolEvent::Stopped) => break,
                    Some(event) => self.handle(event),
                },
                Ok(()) = board.changed() => {
                    let before = (memory, slots);
                    {
                        let status = board.borrow_and_update();
                        (memory, slots) = (status.verdict.memory, status.limits.slots);
                    }
                    // Nothing else of a reading concerns requests.
                    if (memory, slots) != before {
                        self.board_changed(before.0, memory);
                    }
                }
            }
        }
        self.begin_drain();
    }

    fn handle(&self, event: PoolEvent) {
        let now = self.now();
        // Tokens do not change the queue or the published state: nothing is planned or
        // published for them.
        let is_quiet = matches!(
            event,
            PoolEvent::Engine(Event::Token { .. } | Event::Prefill { .. })
        );
        let mut requests = self.shared.requests.lock();
        let mut outcome = Outcome::default();
        match event {
            PoolEvent::Engine(event) => outcome = requests.route(now, event),
            PoolEvent::Ready { model, had_waiters } => {
                let is_use = !had_waiters && !requests.queue.iter().any(|(_, w)| w.model == model);
                outcome.used = is_use.then_some(model);
            }
            // The model and its cached prefixes are about to be unloaded.
            PoolEvent::Retiring { model } => requests.cancel_prewarms(Some(&model)),
            PoolEvent::Unloading { model } => {
                requests.cancel_running(&Failure::cancelled(), Some(&model));
            }
            PoolEvent::Ended {
                model,
                death,
                load_failure,
            } => {
                requests.ends_handled += 1;
                for completed in requests.engine_ended(now, &model, death) {
                    self.complete(&requests, &completed);
                }
                // Before anything is planned, which would have the model loaded again.
                if let Some(failure) = load_failure {
                    requests.fail_queued(|waiting| waiting.model == model, &failure);
                }
            }
            PoolEvent::Stopped => {}
        }
        if is_quiet {
            return;
        }
        self.finish(&requests, outcome);
        self.pump(&mut requests);
    }

    /// Records what has ended, and counts it as a use of its model.
    fn finish(&self, requests: &Requests, outcome: Outcome) {
        let pool = &self.shared.pool;
        if let Some(model) = outcome.used {
            pool.used(&model, None, requests.is_awaited(&model));
        }
        if let Some(completed) = outcome.completed {
            self.complete(requests, &completed);
        }
    }

    fn complete(&self, requests: &Requests, completed: &Completed) {
        self.record(completed);
        if !completed.is_prewarm {
            let keep = completed.caller.keep.as_ref();
            let pool = &self.shared.pool;
            let model = completed.model.as_str();
            pool.used(model, keep, requests.is_awaited(model));
        }
    }

    /// Ends all requests and unloads all models in a memory emergency.
    fn board_changed(&self, before: MemoryState, state: MemoryState) {
        let mut requests = self.shared.requests.lock();
        if state == MemoryState::Emergency && before != MemoryState::Emergency {
            requests.cancel_running(&memory_short(), None);
            requests.fail_queued(|_| true, &memory_short());
            self.shared.pool.unload_for_memory();
        }
        self.pump(&mut requests);
    }

    /// Sends queued work to the engines, reports changed queue positions, and publishes the
    /// state.
    pub(super) fn pump(&self, requests: &mut Requests) {
        self.plan(requests);
        self.publish(requests);
    }

    /// Starts the requests whose models are ready, in the order of the queue, and has the
    /// models of the others loaded.
    fn plan(&self, requests: &mut Requests) {
        let (now, pool) = (self.now(), &self.shared.pool);
        let status = pool.status();
        // An engine has ended, and its requests are not queued again or failed yet.
        if status.ends != requests.ends_handled {
            return;
        }
        requests.drop_stale_prewarms(&status);
        if requests.queue.is_empty() {
            return;
        }
        let ready = pool.ready();
        let allowed = self.shared.board.limits().slots;
        while let Some((id, model)) = requests.next_to_start(now, &ready, allowed) {
            let Some(class) = requests.queued_class(now, id) else {
                break;
            };
            let Some(slot) = pool.slot(&model, class) else {
                break;
            };
            requests.start(now, id, slot);
        }
        for (model, class) in requests.missing_models(now, &ready) {
            let resident = status.get(&model);
            if resident.is_none_or(|resident| resident.is_ending) {
                pool.want(&model, class);
            }
        }
        requests.report_positions(now);
    }

    /// Writes to journal and metrics: lengths and timings, never text.
    fn record(&self, completed: &Completed) {
        self.shared.metrics.completed(completed);
        let ms = u64::try_from(completed.waited.as_millis()).unwrap_or(u64::MAX);
        let (job, caller) = (completed.id.number(), &completed.caller);
        let (uid, sender) = (caller.principal, &caller.origin);
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        let (model, charged) = (completed.model.as_str(), completed.charged);
        match &completed.result {
            Ok(usage) => log::info!(
                job, uid:%, caller_unit, sender:%, model, ms, charged,
                prompt_tokens = usage.prompt_tokens, tokens = usage.completion_tokens,
                tokens_per_second = usage.tokens_per_second();
                "answered"
            ),
            Err(failure) => log::info!(
                job, uid:%, caller_unit, sender:%, model, ms, charged;
                "not answered: {failure}"
            ),
        }
    }
}
