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
        /// Which model.
        model: String,
        /// Whether callers waited for the load itself, without a request.
        had_waiters: bool,
    },
    /// A model makes room for another one as soon as its running requests have ended.
    Retiring {
        /// Which model.
        model: String,
    },
    /// A model is not wanted: its running requests are to end.
    Unloading {
        /// Which model.
        model: String,
    },
    /// The engine has ended, or could not be started.
    Ended {
        /// Its model.
        model: String,
        /// How it died; `None`: it was told to end, or reported why it cannot load.
        death: Option<Death>,
        /// Why the model cannot be loaded; requests for it are to fail.
        load_failure: Option<Failure>,
    },
    /// The pool has stopped; no event follows.
    Stopped,
}
