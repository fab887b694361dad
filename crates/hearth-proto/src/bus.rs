//! Names on D-Bus.

use crate::FailureKind;

/// The bus name, and the name of the interface.
pub const NAME: &str = "org.hearthd.Inference1";
/// The root object path.
pub const PATH: &str = "/org/hearthd/Inference1";
/// Prefix of a job's object path; its number follows.
pub const JOBS: &str = "/org/hearthd/Inference1/jobs/";
/// The interface of a job.
pub const JOB_INTERFACE: &str = "org.hearthd.Inference1.Job";
/// Prefix of the interface's own error names.
pub const ERROR_PREFIX: &str = "org.hearthd.Inference1.Error.";

/// The kinds with error names of the interface's own, and their meaning.
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

/// The name of a failure on the bus: the interface's own, or a standard one.
pub fn error_name(kind: FailureKind) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_what_is_sent() {
        for (kind, _) in ERRORS {
            assert_eq!(error_name(kind), format!("{ERROR_PREFIX}{kind:?}"));
        }
    }
}
