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
        "The service is stopping, or temporarily occupied.",
    ),
    (
        FailureKind::QueueFull,
        "`queue.length_max` requests are waiting.",
    ),
    (
        FailureKind::QuotaExceeded,
        "The caller's user has used up what `limits` in the configuration allow, or has too many open sessions.",
    ),
    (
        FailureKind::Cancelled,
        "The request was cancelled, or its caller has disconnected.",
    ),
    (
        FailureKind::DeadlineExceeded,
        "The request did not finish within its `deadline_ms`.",
    ),
    (
        FailureKind::ContextTooLong,
        "The prompt does not fit the context, or an answer that must be complete was truncated.",
    ),
    (
        FailureKind::ModelNotFound,
        "The model is not installed, or no model is.",
    ),
    (
        FailureKind::ModelInvalid,
        "The file is not a model that the engine can load.",
    ),
    (FailureKind::OutOfMemory, "There is not enough memory."),
    (
        FailureKind::Overheated,
        "The board is too hot to start the request.",
    ),
    (
        FailureKind::InvalidSchema,
        "The JSON schema or grammar cannot be used.",
    ),
    (
        FailureKind::NotSupported,
        "The request is valid, but not supported.",
    ),
    (
        FailureKind::EngineCrashed,
        "The engine crashed while processing this request; the service has started another one.",
    ),
];
