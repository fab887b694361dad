//! Requests: waiting, running, and completed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use hearth_policy::quota::Charged;
use hearth_policy::scheduler::Caller as FairCaller;
use hearth_proto::{
    Command, Event, Failure, GenerateRequest, Priority, RequestId, StreamEvent, Usage,
};
use tokio::sync::{mpsc, oneshot};

use super::resume::Progress;
use crate::caller::Caller;
use crate::engines::{FileId, Slot};

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: GenerateRequest,
    pub(super) model: String,
    pub(super) caller: Caller,
    pub(super) charged: Charged,
    pub(super) events: mpsc::UnboundedSender<StreamEvent>,
    pub(super) submitted: Duration,
    /// The queue position last reported to the caller.
    pub(super) position: Option<u32>,
    pub(super) progress: Progress,
    /// The file that its answer began with.
    pub(super) file: Option<FileId>,
}

impl Waiting {
    /// The caller, for fairness in the queue.
    pub(super) fn fair_caller(&self) -> FairCaller {
        let mut hasher = DefaultHasher::new();
        self.caller.origin.hash(&mut hasher);
        FairCaller {
            uid: self.caller.principal.uid(),
            connection: hasher.finish(),
        }
    }

    /// Whether it computes a configured prompt, which all users share.
    pub(super) fn is_configured_prompt(&self) -> bool {
        self.request.prewarm && self.request.uid.is_none()
    }

    /// Ends it with a failure; its stream may already be dropped.
    pub(super) fn fail(&self, failure: Failure) {
        _ = self.events.send(StreamEvent::Failed(failure));
    }
}

/// A request sent to an engine.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) waiting: Waiting,
    pub(super) slot: Slot,
    /// Its priority when it was sent.
    pub(super) class: Priority,
    /// Whether this engine has started it.
    pub(super) began: bool,
    /// Whether the beginning of its prompt came from the disk.
    pub(super) from_disk: bool,
    pub(super) first_token: Option<Duration>,
    /// Reported instead of the engine's `Cancelled`: usually a deadline.
    pub(super) failure: Option<Failure>,
}

impl Running {
    /// Has the engine cancel it, and reports `failure` to the caller unless an earlier one is
    /// set.
    pub(super) fn cancel(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        let id = self.waiting.request.id;
        // An engine that has ended is reported by the pool.
        _ = self.slot.send(Command::Cancel { id });
    }
}

/// A command to an engine that one event answers.
#[derive(Debug)]
pub(super) struct PendingCommand {
    pub(super) model: String,
    pub(super) sender: oneshot::Sender<Result<Event, Failure>>,
    /// The caller set the keep-alive itself.
    pub(super) sets_keep_alive: bool,
    /// Keeps the engine from ending before it has answered.
    pub(super) _slot: Slot,
}

/// A request that has ended, for the journal and the metrics.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) id: RequestId,
    pub(crate) caller: Caller,
    /// Its user; `None`: shared by all users.
    pub(crate) user: Option<u32>,
    /// Whether it only computed a prompt ahead of time.
    pub(crate) is_prewarm: bool,
    /// Tokens computed for it.
    pub(crate) charged: u32,
    pub(crate) model: String,
    /// Whether the beginning of its prompt came from the disk.
    pub(crate) from_disk: bool,
    pub(crate) waited: Duration,
    pub(crate) first_token: Option<Duration>,
    pub(crate) result: Result<Usage, Failure>,
}
