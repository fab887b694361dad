//! Failures as D-Bus errors.

use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::protocol::{Failure, FailureKind};

/// A failure on its way to the bus; its message is the error's text.
#[derive(Debug)]
pub struct Error(pub Failure);

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        Self(Failure::new(FailureKind::Internal, error.to_string()))
    }
}

/// The kinds with names of the interface's own, and what they mean.
pub const ERRORS: [(FailureKind, &str); 13] = [
    (
        FailureKind::Busy,
        "The service is stopping, or occupied in a way that passes.",
    ),
    (
        FailureKind::QueueFull,
        "`queue.length_max` requests are waiting.",
    ),
    (
        FailureKind::QuotaExceeded,
        "The caller's user has had what `limits` in the configuration allow, or has too many sessions open.",
    ),
    (
        FailureKind::Cancelled,
        "The request was cancelled, or its caller has left the bus.",
    ),
    (
        FailureKind::DeadlineExceeded,
        "There was no answer within the request's own `deadline_ms`.",
    ),
    (
        FailureKind::ContextTooLong,
        "The prompt does not fit the context, or an answer that has to be whole was cut off.",
    ),
    (
        FailureKind::ModelNotFound,
        "No such model is installed, or none at all.",
    ),
    (
        FailureKind::ModelInvalid,
        "The file is not a model that the engine can load.",
    ),
    (FailureKind::OutOfMemory, "The memory does not allow it."),
    (
        FailureKind::Overheated,
        "The board is too hot to begin with it.",
    ),
    (
        FailureKind::InvalidSchema,
        "The JSON schema or grammar cannot be used.",
    ),
    (FailureKind::NotSupported, "Understood, but not offered."),
    (
        FailureKind::EngineCrashed,
        "The engine died of this request; the service has started another one.",
    ),
];

/// The one table: the interface's own names, and the standard ones.
pub(super) fn name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Busy => "org.hearthd.Inference1.Error.Busy",
        FailureKind::QueueFull => "org.hearthd.Inference1.Error.QueueFull",
        FailureKind::QuotaExceeded => "org.hearthd.Inference1.Error.QuotaExceeded",
        FailureKind::Cancelled => "org.hearthd.Inference1.Error.Cancelled",
        FailureKind::DeadlineExceeded => "org.hearthd.Inference1.Error.DeadlineExceeded",
        FailureKind::ContextTooLong => "org.hearthd.Inference1.Error.ContextTooLong",
        FailureKind::ModelNotFound => "org.hearthd.Inference1.Error.ModelNotFound",
        FailureKind::ModelInvalid => "org.hearthd.Inference1.Error.ModelInvalid",
        FailureKind::OutOfMemory => "org.hearthd.Inference1.Error.OutOfMemory",
        FailureKind::Overheated => "org.hearthd.Inference1.Error.Overheated",
        FailureKind::InvalidSchema => "org.hearthd.Inference1.Error.InvalidSchema",
        FailureKind::NotSupported => "org.hearthd.Inference1.Error.NotSupported",
        FailureKind::EngineCrashed => "org.hearthd.Inference1.Error.EngineCrashed",
        FailureKind::AccessDenied => "org.freedesktop.DBus.Error.AccessDenied",
        FailureKind::InvalidArgs => "org.freedesktop.DBus.Error.InvalidArgs",
        FailureKind::Io => "org.freedesktop.DBus.Error.IOError",
        FailureKind::Internal => "org.freedesktop.DBus.Error.Failed",
    }
}

impl zbus::DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let (error, message) = (Message::error(call, self.name()), self.0.message.as_str());
        match self.0.retry_after_s {
            // Bindings show the first argument; who knows of the second can wait so long.
            Some(seconds) => error.build(&(message, seconds)),
            None => error.build(&(message,)),
        }
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(name(self.0.kind))
    }

    fn description(&self) -> Option<&str> {
        Some(&self.0.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_what_is_sent() {
        for (kind, _) in ERRORS {
            assert_eq!(name(kind), format!("org.hearthd.Inference1.Error.{kind:?}"));
        }
    }
}
