//! Entries of the state: the engine, and requests.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use hearth_policy::quota::Charged;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::{
    Command, Event, Failure, GenerateRequest, ModelInfo, Priority, RequestId, Usage,
};
use crate::scheduler::Caller;
use crate::service::keep_alive::Keep;
use crate::service::resume::Progress;
use crate::service::types::StreamEvent;

/// The running engine process.
#[derive(Debug)]
pub(in crate::service) struct Engine {
    pub(in crate::service) model: String,
    pub(in crate::service) commands: mpsc::UnboundedSender<Command>,
    pub(in crate::service) pid: Option<u32>,
    pub(in crate::service) info: Option<ModelInfo>,
    /// It was told to end: later requests wait for the next one.
    pub(in crate::service) is_ending: bool,
    /// The file that it loaded: an answer continues only with the file it began with.
    pub(in crate::service) file: FileId,
    /// What was reduced to fit the memory; empty if nothing was.
    pub(in crate::service) note: String,
}

/// Distinguishes a file from another one that replaced it under the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::service) struct FileId {
    pub(in crate::service) device: u64,
    pub(in crate::service) inode: u64,
    pub(in crate::service) size: u64,
    pub(in crate::service) modified_ns: i128,
}

/// A request in the queue.
#[derive(Debug)]
pub(in crate::service) struct Waiting {
    pub(in crate::service) request: GenerateRequest,
    pub(in crate::service) model: String,
    pub(in crate::service) uid: u32,
    pub(in crate::service) sender: String,
    pub(in crate::service) keep: Option<Keep>,
    pub(in crate::service) unit: Option<String>,
    pub(in crate::service) charged: Charged,
    pub(in crate::service) events: mpsc::UnboundedSender<StreamEvent>,
    pub(in crate::service) submitted: Duration,
    /// The queue position last reported to the caller.
    pub(in crate::service) position: Option<u32>,
    pub(in crate::service) progress: Progress,
    /// The file that its answer began with.
    pub(in crate::service) file: Option<FileId>,
}

impl Waiting {
    /// The caller, for fairness in the queue.
    pub(in crate::service) fn caller(&self) -> Caller {
        let mut hasher = DefaultHasher::new();
        self.sender.hash(&mut hasher);
        Caller {
            uid: self.uid,
            connection: hasher.finish(),
        }
    }

    /// Ends it without an answer; the reader may be gone already.
    pub(in crate::service) fn fail(&self, failure: Failure) {
        _ = self.events.send(StreamEvent::Failed(failure));
    }
}

/// A request sent to the engine.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) waiting: Waiting,
    /// Its class when it was sent.
    pub(super) class: Priority,
    /// Whether this engine has begun to work on it.
    pub(super) began: bool,
    /// Whether the beginning of its prompt came from the disk.
    pub(super) from_disk: bool,
    pub(super) first_token: Option<Duration>,
    /// Reported instead of the engine's `Cancelled`: usually a deadline.
    pub(super) failure: Option<Failure>,
}

/// A command to the engine that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sender: oneshot::Sender<Result<Event, Failure>>,
    /// The caller set the keep-alive itself.
    pub(super) keeps: bool,
}

/// An ended request, for journal and metrics.
#[derive(Debug)]
pub(in crate::service) struct Over {
    pub(in crate::service) id: RequestId,
    pub(in crate::service) uid: u32,
    /// Its user; `None`: shared by all users.
    pub(in crate::service) user: Option<u32>,
    pub(in crate::service) sender: String,
    pub(in crate::service) unit: Option<String>,
    /// Tokens computed for it.
    pub(in crate::service) charged: u32,
    pub(in crate::service) model: String,
    /// Whether the beginning of its prompt came from the disk.
    pub(in crate::service) from_disk: bool,
    pub(in crate::service) waited: Duration,
    pub(in crate::service) first_token: Option<Duration>,
    pub(in crate::service) result: Result<Usage, Failure>,
}
