//! The error type that crosses the process boundary: what went wrong and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a failure; [`names`](Self::names) has what each transport calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The service is draining or cannot accept work at the moment.
    Busy,
    /// The bounded queue is full.
    QueueFull,
    /// The caller's user has used up what the configuration or the service allows.
    QuotaExceeded,
    /// The caller, or the daemon for the caller, cancelled the request.
    Cancelled,
    /// The request's own deadline passed.
    DeadlineExceeded,
    /// The prompt plus one answer token does not fit the context.
    ContextTooLong,
    /// No model of that name is installed, or no model at all.
    ModelNotFound,
    /// The file is not a model that this engine can load.
    ModelInvalid,
    /// Memory does not allow it.
    OutOfMemory,
    /// The board is too hot.
    Overheated,
    /// A JSON schema that cannot be used.
    InvalidSchema,
    /// The request is understood, but not supported.
    NotSupported,
    /// The engine process ended while it processed this request.
    EngineCrashed,
    /// The caller may not do this.
    AccessDenied,
    /// The request itself is malformed.
    InvalidArgs,
    /// A file could not be read or written.
    Io,
    /// A defect of Hearthd.
    Internal,
}

impl FailureKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::Busy,
        Self::QueueFull,
        Self::QuotaExceeded,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::ContextTooLong,
        Self::ModelNotFound,
        Self::ModelInvalid,
        Self::OutOfMemory,
        Self::Overheated,
        Self::InvalidSchema,
        Self::NotSupported,
        Self::EngineCrashed,
        Self::AccessDenied,
        Self::InvalidArgs,
        Self::Io,
        Self::Internal,
    ];

    /// The name in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::QueueFull => "queue_full",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ContextTooLong => "context_too_long",
            Self::ModelNotFound => "model_not_found",
            Self::ModelInvalid => "model_invalid",
            Self::OutOfMemory => "out_of_memory",
            Self::Overheated => "overheated",
            Self::InvalidSchema => "invalid_schema",
            Self::NotSupported => "not_supported",
            Self::EngineCrashed => "engine_crashed",
            Self::AccessDenied => "access_denied",
            Self::InvalidArgs => "invalid_args",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }
}

/// A failure with a message that says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// What happened and what to do next, as text for users.
    pub message: String,
    /// Seconds after which a retry makes sense; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// The field of the request that it is about, as the client named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How long a prompt is that is too long, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<PromptSize>,
}

/// The size of a prompt that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSize {
    /// The tokens that it has.
    pub tokens: u32,
    /// The tokens that the context holds.
    pub context: u32,
}

impl Failure {
    /// A failure of `kind` with a message for users.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_s: None,
            field: None,
            size: None,
        }
    }

    /// A failure about one field of the request; its message is the field's name in
    /// backticks, a space and `what`.
    pub fn of_field(kind: FailureKind, field: &str, what: impl fmt::Display) -> Self {
        Self::new(kind, format!("`{field}` {what}")).about(field)
    }

    /// The same failure, with a hint when to retry.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same failure, about this field of the request.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Shorthand for an [`FailureKind::InvalidArgs`] failure.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidArgs, message)
    }

    /// As [`Self::of_field`], for an [`FailureKind::InvalidArgs`] failure.
    pub fn invalid_field(field: &str, what: impl fmt::Display) -> Self {
        Self::of_field(FailureKind::InvalidArgs, field, what)
    }

    /// The failure of a cancelled request.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "the request was cancelled")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name() {
        for (place, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(FailureKind::Internal as usize + 1, FailureKind::ALL.len());
    }

    #[test]
    fn a_field_is_data_and_part_of_the_message() {
        let failure = Failure::invalid_field("stop", "must be a string");
        assert_eq!(failure.message, "`stop` must be a string");
        assert_eq!(failure.field.as_deref(), Some("stop"));
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["field"], "stop");
        assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), failure);
        let older = serde_json::json!({"kind": "busy", "message": "m"});
        assert_eq!(
            serde_json::from_value::<Failure>(older).unwrap().field,
            None
        );
    }
}
