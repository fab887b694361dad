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
