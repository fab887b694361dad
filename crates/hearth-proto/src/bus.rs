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
