//! Which queued request goes to an engine next, and which models the others wait for.

use std::time::Duration;

use hearth_policy::scheduler::AGEING;
use hearth_proto::{Command, Failure, FailureKind, Priority, RequestId};

use super::entry::{Running, Waiting};
use super::requests::Requests;
use crate::engines::{ReadyModel, Slot};

impl Requests {
    /// The first queued request, in the order of the queue, that can be sent to its model now,
    /// and the model. Requests for one model are never reordered. `allowed`: how many may run
    /// in all; 0: no limit.
    pub(super) fn next_to_start(
        &self,
        now: Duration,
        ready: &[ReadyModel],
        allowed: u32,
    ) -> Option<(RequestId, String)> {
        let mut blocked: Vec<&str> = Vec::new();
        for (id, next) in self.queue.in_order(now) {
            let model = next.model.as_str();
            if blocked.contains(&model) {
                continue;
            }
            let ready = ready.iter().find(|ready| ready.name == model);
            if ready.is_some_and(|ready| self.can_start(now, next, ready, allowed)) {
                return Some((id, model.to_owned()));
            }
            blocked.push(model);
        }
        None
    }

    /// Whether a request can be sent to its model now. Of each class and those above, as many
    /// are in the engine as it has slots, so that a higher one always finds a slot; a
    /// preempted one keeps its own. A request that may have crashed the engine runs alone.
    fn can_start(&self, now: Duration, next: &Waiting, ready: &ReadyModel, allowed: u32) -> bool {
        let is_own = |running: &&Running| running.waiting.model == ready.name;
        let mut own = self.running.values().filter(is_own).peekable();
        let is_suspect = |waiting: &Waiting| waiting.progress.is_suspect();
        if is_suspect(next) && own.peek().is_some() || own.any(|r| is_suspect(&r.waiting)) {
            return false;
        }
        let wanted = class(next, now);
        let is_ahead = |running: &&Running| running.class <= wanted;
        let ahead = || self.running.values().filter(is_ahead);
        ahead().filter(is_own).count() < ready.slots as usize
            && (allowed == 0 || ahead().count() < allowed as usize)
    }

    /// A queued request's class after its waiting time.
    pub(super) fn queued_class(&self, now: Duration, id: RequestId) -> Option<Priority> {
        let (_, waiting) = self.queue.iter().find(|(key, _)| *key == id)?;
        Some(class(waiting, now))
    }

    /// The models that queued requests wait for and that are not ready, each with the highest
    /// class of these, in the order of the queue.
    pub(super) fn missing_models(
        &self,
        now: Duration,
        ready: &[ReadyModel],
    ) -> Vec<(String, Priority)> {
        let mut missing: Vec<(String, Priority)> = Vec::new();
        for (_, waiting) in self.queue.in_order(now) {
            let is_ready = ready.iter().any(|ready| ready.name == waiting.model);
            if !is_ready && !missing.iter().any(|(model, _)| *model == waiting.model) {
                missing.push((waiting.model.clone(), class(waiting, now)));
            }
        }
        missing
    }

    /// Sends a queued request to an engine.
    pub(super) fn start(&mut self, now: Duration, id: RequestId, slot: Slot) {
        let Some(mut waiting) = self.queue.take(id) else {
            return;
        };
        let began_with = *waiting.file.get_or_insert(slot.file());
        if began_with != slot.file() && !waiting.progress.tokens.is_empty() {
            waiting.fail(replaced());
            return;
        }
        waiting.file = Some(slot.file());
        let class = class(&waiting, now);
        let mut request = waiting.request.clone();
        request.priority = class;
        request.resume.clone_from(&waiting.progress.tokens);
        // An engine that has ended is reported by the pool.
        _ = slot.send(Command::Generate(request));
        let running = Running {
            class,
            slot,
            began: false,
            from_disk: false,
            waiting,
            first_token: None,
            failure: None,
        };
        self.running.insert(running.waiting.request.id, running);
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
        "the engine ended during this answer, and the model file was replaced in the meantime: send the request again",
    )
}
