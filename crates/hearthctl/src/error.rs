//! Errors and their exit codes.

use std::fmt;
use std::io;
use std::path::PathBuf;

use hearth_proto::FailureKind;
use hearth_proto::bus::ERROR_PREFIX;
use serde_json::{Value, json};
use zbus::DBusError;

/// Prefix of the standard error names.
const STANDARD_ERRORS: &str = "org.freedesktop.DBus.Error.";
/// Prefix of the error names that systemd returns when activation fails.
const SYSTEMD_ERRORS: &str = "org.freedesktop.systemd1.";

/// The kind of an error of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of the service's own.
    Known(FailureKind),
    /// Any other, by the last part of its name on the bus, or by its full name.
    Other(String),
}

impl From<FailureKind> for Kind {
    fn from(kind: FailureKind) -> Self {
        Self::Known(kind)
    }
}

impl From<&str> for Kind {
    /// Kinds are `QueueFull` on the bus and `queue_full` in stream events.
    fn from(name: &str) -> Self {
        let is_named = |kind: &FailureKind| kind.as_str() == name || format!("{kind:?}") == name;
        let known = FailureKind::ALL.into_iter().find(is_named);
        known.map_or_else(|| Self::Other(name.to_owned()), Self::Known)
    }
}

/// The name for scripts, as on the bus.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(kind) => write!(f, "{kind:?}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Any outcome of `hearthctl` other than success.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The command line requests something impossible.
    #[error("{0}")]
    Usage(String),
    /// The service refused or failed; its message says what to do next.
    #[error("{message}")]
    Service {
        /// The kind.
        kind: Kind,
        /// For the user.
        message: String,
    },
    /// The service cannot be reached on the bus.
    #[error("hearthd cannot be reached: {0}\nIs hearthd running? Try: systemctl status hearthd")]
    Unreachable(String),
    /// The bus refuses the call: its policy admits only the group.
    #[error(
        "the bus does not let you talk to hearthd\nAre you in the group hearth? Try: \
         sudo adduser $USER hearth, then log in again"
    )]
    NotInGroup,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The answer could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A file of the user could not be used.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A server on the network cannot be reached, or refuses.
    #[error("{message}")]
    Download {
        /// `Network` or `AccessDenied`.
        kind: &'static str,
        /// For the user.
        message: String,
    },
    /// The service sent something that this client does not understand.
    #[error("{0}\nDo hearthctl and the running hearthd have the same version?")]
    Unexpected(String),
}

/// The result of every command.
pub type Result<T = (), E = CtlError> = std::result::Result<T, E>;

impl CtlError {
    /// An error of the service.
    pub fn service(kind: impl Into<Kind>, message: impl Into<String>) -> Self {
        Self::Service {
            kind: kind.into(),
            message: message.into(),
        }
    }

    /// The exit code, as `--help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Unreachable(_) | Self::NotInGroup => 3,
            Self::Download { .. } => 6,
            Self::Interrupted => 130,
            Self::Output(_) | Self::Unexpected(_) => 1,
            Self::Service { kind, .. } => match kind {
                Kind::Known(
                    FailureKind::ModelNotFound
                    | FailureKind::ModelInvalid
                    | FailureKind::OutOfMemory,
                ) => 4,
                Kind::Known(
                    FailureKind::Busy | FailureKind::QueueFull | FailureKind::QuotaExceeded,
                ) => 5,
                Kind::Known(_) | Kind::Other(_) => 1,
            },
        }
    }

    /// Whether the reader of the output has closed it, which is not an error.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The error as the JSON document that `--json` prints instead of an answer.
    pub fn to_json(&self) -> Value {
        let kind = match self {
            Self::Usage(_) => "Usage",
            Self::Service { kind, .. } => &kind.to_string(),
            Self::Unreachable(_) => "Unreachable",
            Self::NotInGroup => "NotInGroup",
            Self::Download { kind, .. } => kind,
            Self::Interrupted => "Interrupted",
            Self::Output(_) | Self::File { .. } => "Io",
            Self::Unexpected(_) => "Unexpected",
        };
        json!({
            "error": { "kind": kind, "message": self.to_string(), "exit_code": self.exit_code() }
        })
    }
}

impl From<zbus::Error> for CtlError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                by_name(name.as_str(), message.unwrap_or_default())
            }
            zbus::Error::FDO(e) => Self::from(*e),
            zbus::Error::InputOutput(e) => Self::Unreachable(e.to_string()),
            zbus::Error::Connection(e, address) => Self::Unreachable(format!("{address}: {e}")),
            e @ (zbus::Error::Address(_) | zbus::Error::Handshake(_)) => {
                Self::Unreachable(e.to_string())
            }
            other => Self::Unexpected(format!("unexpected answer on the bus: {other}")),
        }
    }
}

impl From<zbus::fdo::Error> for CtlError {
    fn from(error: zbus::fdo::Error) -> Self {
        match error {
            zbus::fdo::Error::ZBus(e) => Self::from(e),
            e => by_name(&e.name(), e.description().unwrap_or_default().to_owned()),
        }
    }
}

/// Classifies an error reply by its full name on the bus.
fn by_name(name: &str, message: String) -> CtlError {
    if let Some(kind) = name.strip_prefix(ERROR_PREFIX) {
        return CtlError::service(kind, or_name(message, kind));
    }
    if name.starts_with(SYSTEMD_ERRORS) {
        return CtlError::Unreachable(or_name(message, name));
    }
    let Some(kind) = name.strip_prefix(STANDARD_ERRORS) else {
        return CtlError::service(name, or_name(message, name));
    };
    match kind {
        "AccessDenied" if by_bus_policy(&message) => CtlError::NotInGroup,
        "ServiceUnknown" | "NameHasNoOwner" | "NoServer" | "Disconnected" | "NoReply"
        | "TimedOut" | "Timeout" | "AuthFailed" => CtlError::Unreachable(or_name(message, kind)),
        _ if kind.starts_with("Spawn.") => CtlError::Unreachable(or_name(message, kind)),
        "UnknownMethod" | "UnknownInterface" | "UnknownProperty" => {
            CtlError::Unexpected(or_name(message, kind))
        }
        _ => CtlError::service(kind, or_name(message, kind)),
    }
}

/// The name of the error if it has no message.
fn or_name(message: String, name: &str) -> String {
    if message.is_empty() {
        name.to_owned()
    } else {
        message
    }
}

/// `AccessDenied` is sent by the bus as well as by the service, under the same name; only
/// the wording of dbus-daemon and dbus-broker distinguishes them.
fn by_bus_policy(message: &str) -> bool {
    message.starts_with("Rejected send message")
        || message.starts_with("Sender is not authorized to send message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_spelling() {
        let event = CtlError::service("out_of_memory", "m").to_json();
        assert_eq!(event["error"]["kind"], "OutOfMemory");
        let foreign = CtlError::service("com.example.Error.Odd", "m").to_json();
        assert_eq!(foreign["error"]["kind"], "com.example.Error.Odd");
    }

    #[test]
    fn exit_codes_follow_the_kind_in_either_spelling() {
        for (kind, code) in [
            ("ModelNotFound", 4),
            ("model_invalid", 4),
            ("OutOfMemory", 4),
            ("Busy", 5),
            ("queue_full", 5),
            ("Overheated", 1),
            ("AccessDenied", 1),
        ] {
            assert_eq!(CtlError::service(kind, "m").exit_code(), code, "{kind}");
        }
        assert_eq!(CtlError::Interrupted.exit_code(), 130);
    }

    #[test]
    fn a_refusal_of_the_bus_is_not_one_of_the_service() {
        let name = "org.freedesktop.DBus.Error.AccessDenied";
        let bus = by_name(name, "Rejected send message, 1 matched rules; …".into());
        assert!(matches!(bus, CtlError::NotInGroup));
        let service = by_name(name, "only root may import models".into());
        assert_eq!(service.exit_code(), 1);
    }

    #[test]
    fn nobody_there_is_unreachable() {
        for kind in ["ServiceUnknown", "NoReply", "Spawn.ChildExited"] {
            let error = by_name(&format!("{STANDARD_ERRORS}{kind}"), String::new());
            assert_eq!(error.exit_code(), 3, "{kind}");
            assert!(error.to_string().contains("systemctl status hearthd"));
        }
    }

    #[test]
    fn the_json_form_carries_kind_message_and_code() {
        let document = CtlError::service("QueueFull", "try later").to_json();
        assert_eq!(document["error"]["kind"], "QueueFull");
        assert_eq!(document["error"]["message"], "try later");
        assert_eq!(document["error"]["exit_code"], 5);
    }
}
