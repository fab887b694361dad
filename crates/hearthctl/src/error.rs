//! Errors and their exit codes.

use std::io;
use std::path::PathBuf;

use hearth_client::FailureName;
use hearth_lab::LabError;
use hearth_proto::{Failure, FailureKind};
use serde_json::{Value, json};
use zbus::DBusError;

/// Prefix of the standard error names.
const STANDARD_ERRORS: &str = "org.freedesktop.DBus.Error.";
/// Prefix of the error names that systemd returns when activation fails.
const SYSTEMD_ERRORS: &str = "org.freedesktop.systemd1.";
/// Any outcome of `hearthctl` other than success.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The command line requests something impossible.
    #[error("{0}")]
    Usage(String),
    /// The service, the engine or a model failed; the message says what to do next.
    #[error("{message}")]
    Service {
        kind: FailureKind,
        /// For the user.
        message: String,
    },
    /// An error of the bus or of a later version of the service.
    #[error("{message}")]
    Other {
        /// Last part of the error's name; of names from elsewhere, the full name.
        kind: String,
        /// For the user.
        message: String,
    },
    /// The object on the bus does not exist.
    #[error("{0}")]
    UnknownObject(String),
    /// The command completed, with a negative result.
    #[error("{message}")]
    Result {
        /// For scripts.
        kind: &'static str,
        /// For the user.
        message: String,
    },
    /// The service cannot be reached on the bus.
    #[error("hearthd cannot be reached: {0}\nIs hearthd running? Try: systemctl status hearthd")]
    Unreachable(String),
    /// The bus refuses the call: its policy admits only the group.
    #[error(
        "the bus policy does not allow you to call hearthd\nAre you a member of the group hearth? \
         Try: sudo adduser $USER hearth, then log in again"
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
        kind: DownloadError,
        /// For the user.
        message: String,
    },
    /// A server with tools for a chat failed.
    #[error("{0}")]
    McpServer(String),
    /// The service sent something that this client does not understand.
    #[error("{0}\nDo hearthctl and the running hearthd have the same version?")]
    Unexpected(String),
}

/// Why a download failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadError {
    /// The server cannot be reached, or does not respond as it should.
    Network,
    /// The server refuses.
    AccessDenied,
}

/// The result of every command.
pub type Result<T = (), E = CtlError> = std::result::Result<T, E>;

impl CtlError {
    /// A failure of this kind.
    pub fn service(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Service {
            kind,
            message: message.into(),
        }
    }

    /// A failure that the service has named.
    pub fn named(name: FailureName, message: String) -> Self {
        match name {
            FailureName::Known(kind) => Self::Service { kind, message },
            FailureName::Other(kind) => Self::Other { kind, message },
        }
    }

    /// A failed download.
    pub fn network(message: impl Into<String>) -> Self {
        Self::Download {
            kind: DownloadError::Network,
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
            Self::Output(_)
            | Self::Unexpected(_)
            | Self::Other { .. }
            | Self::UnknownObject(_)
            | Self::McpServer(_)
            | Self::Result { .. } => 1,
            Self::Service { kind, .. } => match kind {
                FailureKind::ModelNotFound
                | FailureKind::ModelInvalid
                | FailureKind::OutOfMemory => 4,
                FailureKind::Busy | FailureKind::QueueFull | FailureKind::QuotaExceeded => 5,
                _ => 1,
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
            Self::Service { kind, .. } => &format!("{kind:?}"),
            Self::Other { kind, .. } => kind,
            Self::UnknownObject(_) => "UnknownObject",
            Self::Result { kind, .. } => kind,
            Self::Unreachable(_) => "Unreachable",
            Self::NotInGroup => "NotInGroup",
            Self::Download { kind, .. } => match kind {
                DownloadError::Network => "Network",
                DownloadError::AccessDenied => "AccessDenied",
            },
            Self::Interrupted => "Interrupted",
            Self::Output(_) | Self::File { .. } => "Io",
            Self::McpServer(_) => "McpServer",
            Self::Unexpected(_) => "Unexpected",
        };
        json!({
            "error": { "kind": kind, "message": self.to_string(), "exit_code": self.exit_code() }
        })
    }
}

impl From<Failure> for CtlError {
    fn from(failure: Failure) -> Self {
        Self::service(failure.kind, failure.message)
    }
}

impl From<LabError> for CtlError {
    fn from(error: LabError) -> Self {
        match error {
            LabError::Request(message) => Self::Usage(message),
            LabError::File { path, source } => Self::File { path, source },
            LabError::Failure(failure) => failure.into(),
            e @ (LabError::Protocol(_) | LabError::Plot(_)) => Self::Unexpected(e.to_string()),
        }
    }
}

impl From<hearth_client::Error> for CtlError {
    fn from(error: hearth_client::Error) -> Self {
        match error {
            hearth_client::Error::Bus(error) => error.into(),
            hearth_client::Error::Pipe(error) => {
                Self::Unreachable(format!("reading the stream failed: {error}"))
            }
            error @ hearth_client::Error::Line(_) => Self::Unexpected(error.to_string()),
        }
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
    let message = if message.is_empty() {
        last_part(name).to_owned()
    } else {
        message
    };
    let standard = name.strip_prefix(STANDARD_ERRORS);
    match standard {
        Some("AccessDenied") if by_bus_policy(&message) => return CtlError::NotInGroup,
        Some(
            "ServiceUnknown" | "NameHasNoOwner" | "NoServer" | "Disconnected" | "NoReply"
            | "TimedOut" | "Timeout" | "AuthFailed",
        ) => return CtlError::Unreachable(message),
        Some(kind) if kind.starts_with("Spawn.") => return CtlError::Unreachable(message),
        Some("UnknownMethod" | "UnknownInterface" | "UnknownProperty") => {
            return CtlError::Unexpected(message);
        }
        Some("UnknownObject") => return CtlError::UnknownObject(message),
        None if name.starts_with(SYSTEMD_ERRORS) => return CtlError::Unreachable(message),
        _ => {}
    }
    CtlError::named(FailureName::parse(name), message)
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
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
    fn errors_of_the_bus_are_kinds_or_keep_their_names() {
        for kind in FailureKind::ALL {
            let name = kind.names().bus;
            let document = by_name(name, "m".into()).to_json();
            let last = name.rsplit('.').next().unwrap();
            assert_eq!(document["error"]["kind"], last, "{document}");
        }
        let full = by_name(FailureKind::QueueFull.names().bus, "m".into());
        assert_eq!(full.exit_code(), 5);
        for (name, kind) in [
            ("com.example.Error.Odd", "com.example.Error.Odd"),
            ("org.hearthd.Inference1.Error.Later", "Later"),
            (
                "org.freedesktop.DBus.Error.LimitsExceeded",
                "LimitsExceeded",
            ),
        ] {
            let error = by_name(name, String::new());
            assert_eq!(error.to_json()["error"]["kind"], kind);
            assert!(!error.to_string().is_empty(), "{name}");
        }
    }

    #[test]
    fn exit_codes_follow_the_kind() {
        for (kind, code) in [
            (FailureKind::ModelNotFound, 4),
            (FailureKind::ModelInvalid, 4),
            (FailureKind::OutOfMemory, 4),
            (FailureKind::Busy, 5),
            (FailureKind::QueueFull, 5),
            (FailureKind::QuotaExceeded, 5),
            (FailureKind::Overheated, 1),
            (FailureKind::AccessDenied, 1),
        ] {
            assert_eq!(CtlError::service(kind, "m").exit_code(), code, "{kind:?}");
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
    fn an_absent_service_is_unreachable() {
        for kind in ["ServiceUnknown", "NoReply", "Spawn.ChildExited"] {
            let error = by_name(&format!("{STANDARD_ERRORS}{kind}"), String::new());
            assert_eq!(error.exit_code(), 3, "{kind}");
            assert!(error.to_string().contains("systemctl status hearthd"));
        }
    }

    #[test]
    fn the_json_form_carries_kind_message_and_code() {
        let document = CtlError::service(FailureKind::QueueFull, "try later").to_json();
        assert_eq!(document["error"]["kind"], "QueueFull");
        assert_eq!(document["error"]["message"], "try later");
        assert_eq!(document["error"]["exit_code"], 5);
    }
}
