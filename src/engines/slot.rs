//! Slots: the right to send an engine a request or a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_proto::{Command, Failure, Priority};
use tokio::sync::{mpsc, watch};

use super::engine_died;

/// The classes, the highest first: the order of [`Slots`]' counters.
const CLASSES: [Priority; 3] = [
    Priority::Interactive,
    Priority::Normal,
    Priority::Background,
];

/// Distinguishes a file from another one that replaced it under the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
}

/// One request or command in an engine. An engine with open slots is not idle, and its model
/// stays in memory.
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

/// Counts the open slots of one engine by class, and wakes the pool when the last one of a
/// class is closed.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    open: Arc<[AtomicUsize; CLASSES.len()]>,
    changed: watch::Sender<()>,
}

impl Slots {
    pub(super) fn new(changed: watch::Sender<()>) -> Self {
        Self {
            open: Arc::default(),
            changed,
        }
    }

    pub(super) fn open(
        &self,
        class: Priority,
        commands: mpsc::UnboundedSender<Command>,
        file: FileId,
    ) -> Slot {
        let counter = CLASSES.iter().position(|c| *c == class).unwrap_or(0);
        self.open[counter].fetch_add(1, Ordering::Relaxed);
        Slot {
            commands,
            file,
            _lease: Lease {
                slots: self.clone(),
                counter,
            },
        }
    }

    /// Whether no slot is open.
    pub(super) fn are_closed(&self) -> bool {
        self.class().is_none()
    }

    /// The highest class of an open slot.
    pub(super) fn class(&self) -> Option<Priority> {
        let open = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) > 0;
        let counters = self.open.iter().zip(CLASSES);
        counters
            .filter(|(counter, _)| open(counter))
            .map(|(_, class)| class)
            .next()
    }
}

#[derive(Debug)]
struct Lease {
    slots: Slots,
    counter: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.slots.open[self.counter].fetch_sub(1, Ordering::Relaxed) == 1 {
            self.slots.changed.send_replace(());
        }
    }
}
