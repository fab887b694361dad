//! Slots: the right to send an engine a request or a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_proto::{Command, Failure};
use tokio::sync::{Notify, mpsc};

use super::engine_died;

/// Distinguishes a file from another one that replaced it under the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
}

/// One request or command in an engine. An engine with open slots is neither idle nor replaced
/// by another model.
#[derive(Debug)]
pub(crate) struct Slot {
    commands: mpsc::UnboundedSender<Command>,
    file: FileId,
    _lease: Lease,
}

impl Slot {
    /// Sends the engine a command.
    ///
    /// # Errors
    /// `EngineCrashed` if the engine has ended.
    pub(crate) fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).map_err(|_| engine_died())
    }

    /// The file that the engine loaded: an answer continues only with the file that it
    /// began with.
    pub(crate) fn file(&self) -> FileId {
        self.file
    }
}

/// Counts the open slots of one engine, and wakes its supervisor when the last is closed.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    open: Arc<AtomicUsize>,
    closed: Arc<Notify>,
}

impl Slots {
    pub(super) fn new(closed: Arc<Notify>) -> Self {
        Self {
            open: Arc::default(),
            closed,
        }
    }

    pub(super) fn open(&self, commands: mpsc::UnboundedSender<Command>, file: FileId) -> Slot {
        self.open.fetch_add(1, Ordering::Relaxed);
        Slot {
            commands,
            file,
            _lease: Lease(self.clone()),
        }
    }

    /// Whether no slot is open.
    pub(super) fn are_closed(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

#[derive(Debug)]
struct Lease(Slots);

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.closed.notify_one();
        }
    }
}
