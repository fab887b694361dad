//! The one error that crosses the process: what went wrong and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure; the transports map each to a D-Bus name and an HTTP status
/// in one table each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The service is draining or cannot take work just now.
    Busy,
    /// The bounded queue is full.
    QueueFull,
    /// The caller's user has had what the configuration or the service allows it.
    QuotaExceeded,
    /// The caller, or the daemon for the caller, cancelled the request.
    Cancelled,
    /// The request's own deadline passed.
    DeadlineExceeded,
    /// Prompt (plus room for one answer token) does not fit the context.
    ContextTooLong,
    /// No model of that name, or none at all.
    ModelNotFound,
    /// The file is not a model that this engine can load.
    ModelInvalid,
    /// Memory does not allow it.
    OutOfMemory,
    /// The board is too hot.
    Overheated,
    /// A JSON schema that cannot be used.
    InvalidSchema,
    /// Understood, but not offered.
    NotSupported,
    /// The engine process ended while it worked on this request.
    EngineCrashed,
    /// The caller may not do this.
    AccessDenied,
    /// The request itself is malformed.
    InvalidArgs,
    /// A file could not be read or written.
    Io,
    /// A defect of Hearthd.
    Internal,
}

/// A failure with a message that says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened and what to do next, for people.
    pub message: String,
    /// Seconds after which another try makes sense; `None` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

impl Failure {
    /// A failure of `kind` with a message for people.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// The same failure, with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Short for an [`FailureKind::InvalidArgs`] failure.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidArgs, message)
    }

    /// The failure of a cancelled request.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "the request was cancelled")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
