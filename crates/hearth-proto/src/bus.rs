//! Names on D-Bus.

use std::fmt::Write as _;

use crate::FailureKind;

/// The bus name, and the name of the interface.
pub const NAME: &str = "org.hearthd.Inference1";
/// The root object path.
pub const PATH: &str = "/org/hearthd/Inference1";
/// Prefix of a job's object path; its number follows.
pub const JOBS: &str = "/org/hearthd/Inference1/jobs/";
/// Prefix of a model's object path, see [`model_path`].
pub const MODELS: &str = "/org/hearthd/Inference1/models/";
/// The interface of the installed models, at [`PATH`].
pub const MODEL_STORE_INTERFACE: &str = "org.hearthd.Inference1.ModelStore";
/// The interface of the measurements by threads, at [`PATH`].
pub const TUNING_INTERFACE: &str = "org.hearthd.Inference1.Tuning";
/// The interface of the prompt cache on disk, at [`PATH`].
pub const PROMPT_CACHE_INTERFACE: &str = "org.hearthd.Inference1.PromptCache";
/// The interface of a model.
pub const MODEL_INTERFACE: &str = "org.hearthd.Inference1.Model";
/// The interface of a job.
pub const JOB_INTERFACE: &str = "org.hearthd.Inference1.Job";
/// The interface of a session.
pub const SESSION_INTERFACE: &str = "org.hearthd.Inference1.Session";
/// Prefix of the interface's own error names.
pub const ERROR_PREFIX: &str = "org.hearthd.Inference1.Error.";

/// The object path of a model. Bytes that a path cannot contain are written as `_xx` in
/// hexadecimal, as systemd does (`sd_bus_path_encode`).
pub fn model_path(name: &str) -> String {
    let mut path = MODELS.to_owned();
    for (at, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
        if is_plain {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_models_are_valid_and_distinct() {
        let of = |name: &str| model_path(name).strip_prefix(MODELS).unwrap().to_owned();
        assert_eq!(of("qwen2.5-0.5b"), "qwen2_2e5_2d0_2e5b");
        assert_eq!(of("7b"), "_37b");
        assert_ne!(of("a_b"), of("a-b"));
    }
}
