//! What the transports call a failure. One table for D-Bus and HTTP, so that a new kind
//! cannot be added to one of them alone.

use crate::FailureKind;

/// OpenAI's `type` of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAiType {
    /// The request has to be changed.
    InvalidRequest,
    /// The caller has used up what it is allowed.
    RateLimit,
    /// The service cannot do it now, or at all.
    Server,
}

impl OpenAiType {
    /// OpenAI's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::RateLimit => "rate_limit_error",
            Self::Server => "server_error",
        }
    }

    /// The `code` of a failed response of the Responses API, which has only a few.
    pub fn response_code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_prompt",
            Self::RateLimit => "rate_limit_exceeded",
            Self::Server => "server_error",
        }
    }
}

/// What the transports call a kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureNames {
    /// The error name on D-Bus: of the interface's own, or a standard one.
    pub bus: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// OpenAI's `type`.
    pub openai_type: OpenAiType,
    /// OpenAI's `code`.
    pub openai_code: &'static str,
}

/// The interface's own error name.
macro_rules! own {
    ($name:literal) => {
        concat!("org.hearthd.Inference1.Error.", $name)
    };
}

/// A standard error name.
macro_rules! standard {
    ($name:literal) => {
        concat!("org.freedesktop.DBus.Error.", $name)
    };
}

impl FailureKind {
    /// The names of this kind. The OpenAI client retries on 408, 409, 429 and 5xx, so no
    /// failure that cannot succeed later has one of these, except for defects.
    #[rustfmt::skip]
    pub fn names(self) -> FailureNames {
        use OpenAiType::{InvalidRequest, RateLimit, Server};
        let (bus, status, openai_type, openai_code) = match self {
            Self::Busy => (own!("Busy"), 503, Server, "busy"),
            Self::QueueFull => (own!("QueueFull"), 429, RateLimit, "queue_full"),
            Self::QuotaExceeded => (own!("QuotaExceeded"), 429, RateLimit, "quota_exceeded"),
            // nginx's status for a client that closed the connection; nobody reads it.
            Self::Cancelled => (own!("Cancelled"), 499, Server, "cancelled"),
            Self::DeadlineExceeded => (own!("DeadlineExceeded"), 504, Server, "deadline_exceeded"),
            Self::ContextTooLong => (own!("ContextTooLong"), 400, InvalidRequest, "context_length_exceeded"),
            Self::ModelNotFound => (own!("ModelNotFound"), 404, InvalidRequest, "model_not_found"),
            Self::ModelInvalid => (own!("ModelInvalid"), 422, InvalidRequest, "model_invalid"),
            Self::OutOfMemory => (own!("OutOfMemory"), 507, Server, "out_of_memory"),
            Self::Overheated => (own!("Overheated"), 503, Server, "overheated"),
            Self::InvalidSchema => (own!("InvalidSchema"), 400, InvalidRequest, "invalid_schema"),
            Self::NotSupported => (own!("NotSupported"), 400, InvalidRequest, "not_supported"),
            Self::EngineCrashed => (own!("EngineCrashed"), 500, Server, "engine_crashed"),
            Self::AccessDenied => (standard!("AccessDenied"), 403, InvalidRequest, "access_denied"),
            Self::InvalidArgs => (standard!("InvalidArgs"), 400, InvalidRequest, "invalid_request"),
            Self::Io => (standard!("IOError"), 500, Server, "internal"),
            Self::Internal => (standard!("Failed"), 500, Server, "internal"),
        };
        FailureNames { bus, status, openai_type, openai_code }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bus::{ERROR_PREFIX, ERRORS};

    #[test]
    fn every_kind_is_told_apart_on_the_bus() {
        let names = FailureKind::ALL.map(|kind| kind.names().bus);
        assert_eq!(BTreeSet::from(names).len(), FailureKind::ALL.len());
        let explained = ERRORS.map(|(kind, _)| kind);
        for kind in FailureKind::ALL {
            let name = kind.names().bus;
            let own = name.strip_prefix(ERROR_PREFIX);
            assert_eq!(own.is_some(), explained.contains(&kind), "{name}");
            if let Some(own) = own {
                assert_eq!(own, format!("{kind:?}"));
            }
        }
    }

    #[test]
    fn status_and_type_agree() {
        for kind in FailureKind::ALL {
            let names = kind.names();
            let expected: &[u16] = match names.openai_type {
                OpenAiType::InvalidRequest => &[400, 403, 404, 422],
                OpenAiType::RateLimit => &[429],
                OpenAiType::Server => &[499, 500, 503, 504, 507],
            };
            assert!(
                expected.contains(&names.status),
                "{kind:?}: {}",
                names.status
            );
            let is_own_word = names.openai_code == kind.as_str();
            let has_openais = matches!(
                kind,
                FailureKind::ContextTooLong | FailureKind::InvalidArgs | FailureKind::Io
            );
            assert_ne!(is_own_word, has_openais, "{kind:?}: {}", names.openai_code);
        }
        for (kind, code) in [
            (FailureKind::ContextTooLong, "invalid_prompt"),
            (FailureKind::QuotaExceeded, "rate_limit_exceeded"),
            (FailureKind::EngineCrashed, "server_error"),
        ] {
            assert_eq!(kind.names().openai_type.response_code(), code);
        }
    }
}
