//! Failures as D-Bus errors.

use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use hearth_proto::{Failure, FailureKind};

/// A failure to be sent on the bus; its message is the error's text.
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

impl zbus::DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let (error, message) = (Message::error(call, self.name()), self.0.message.as_str());
        match self.0.retry_after_s {
            // Bindings show the first argument; a client that reads the second can wait
            // that long.
            Some(seconds) => error.build(&(message, seconds)),
            None => error.build(&(message,)),
        }
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.0.kind.names().bus)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.0.message)
    }
}
