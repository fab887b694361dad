//! Failed calls.

use std::io;

use hearth_proto::FailureKind;
use hearth_proto::bus::ERROR_PREFIX;
use serde::Deserialize;
use zbus::DBusError as _;

/// Prefix of the standard error names.
const STANDARD: &str = "org.freedesktop.DBus.Error.";

/// What can go wrong between a program and the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A failed call; [`FailureName::of`] tells what it means.
    #[error(transparent)]
    Bus(#[from] zbus::Error),
    /// The pipe of a stream cannot be read.
    #[error("cannot read the stream: {0}")]
    Pipe(#[from] io::Error),
    /// A line of the stream is no event.
    #[error("cannot parse a line of the stream: {0}")]
    Line(#[from] serde_json::Error),
}

/// The name of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FailureName {
    /// One that this version knows.
    Known(FailureKind),
    /// Another one: the last part of the name if it is the service's or a standard one, else
    /// the whole name.
    Other(String),
}

impl FailureName {
    /// The name of a failed call; `None` where it failed before it reached the bus.
    pub fn of(error: &zbus::Error) -> Option<Self> {
        match error {
            zbus::Error::MethodError(name, ..) => Some(Self::parse(name.as_str())),
            zbus::Error::FDO(error) => match &**error {
                zbus::fdo::Error::ZBus(error) => Self::of(error),
                error => Some(Self::parse(&error.name())),
            },
            _ => None,
        }
    }

    /// The meaning of an error's full name on the bus.
    pub fn parse(name: &str) -> Self {
        let mut kinds = FailureKind::ALL.into_iter();
        let known = kinds.find(|kind| kind.names().bus == name);
        // Any program on the bus may send IOError and Failed.
        let own = known.filter(|k| !matches!(k, FailureKind::Io | FailureKind::Internal));
        own.map_or_else(
            || {
                let own = name.strip_prefix(STANDARD);
                let own = own.or_else(|| name.strip_prefix(ERROR_PREFIX));
                Self::Other(own.unwrap_or(name).to_owned())
            },
            Self::Known,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kinds_or_keep_what_tells_them_apart() {
        for kind in FailureKind::ALL {
            let last = kind.names().bus.rsplit('.').next().unwrap();
            let expected = match kind {
                FailureKind::Io | FailureKind::Internal => FailureName::Other(last.to_owned()),
                kind => FailureName::Known(kind),
            };
            assert_eq!(FailureName::parse(kind.names().bus), expected);
        }
        for (name, kept) in [
            ("com.example.Error.Odd", "com.example.Error.Odd"),
            ("org.hearthd.Inference1.Error.Later", "Later"),
            (
                "org.freedesktop.DBus.Error.LimitsExceeded",
                "LimitsExceeded",
            ),
        ] {
            assert_eq!(
                FailureName::parse(name),
                FailureName::Other(kept.to_owned())
            );
        }
    }
}
