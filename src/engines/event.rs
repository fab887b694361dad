//! What the pool reports.

use hearth_proto::{Event, Failure};

/// How an engine process ended unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It crashed, or the daemon killed it because it hung.
    Crashed,
    /// By a SIGKILL that the daemon did not send.
    Killed,
}

/// What the pool reports to the owner of the requests, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolEvent {
    /// An engine's event about a request or a command.
    Engine(Event),
    /// A model is ready for requests.
    Ready {
        /// Whether callers waited for the load itself, without a request.
        had_waiters: bool,
    },
    /// The loaded model is to be replaced by another one as soon as it is idle.
    Replacing,
    /// No model is wanted: running requests are to end.
    Unloading,
    /// The engine has ended, or could not be started.
    Ended {
        /// How it died; `None`: it was told to end, or reported why it cannot load.
        death: Option<Death>,
        /// The model that cannot be loaded and why; requests for it are to fail.
        load_failure: Option<(String, Failure)>,
    },
    /// The pool has stopped; no event follows.
    Stopped,
}
