//! Failures as OpenAI's error objects with their statuses.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ollama::OllamaError;
use crate::protocol::{Failure, FailureKind};

/// A failure to be sent as a response.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    failure: Failure,
}

impl ApiError {
    /// A failure with a status of its own.
    pub fn new(status: StatusCode, failure: Failure) -> Self {
        Self { status, failure }
    }

    /// The `code` of a failed response: OpenAI's Responses API has only a few.
    pub(super) fn response_code(kind: FailureKind) -> &'static str {
        match table(kind).1 {
            INVALID => "invalid_prompt",
            RATE_LIMIT => "rate_limit_exceeded",
            _ => "server_error",
        }
    }

    /// OpenAI's error object.
    pub fn body(failure: &Failure) -> Value {
        let (_, kind, code) = table(failure.kind);
        json!({"error": {
            "message": failure.message, "type": kind, "code": code, "param": failure.field,
        }})
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self {
            status: table(failure.kind).0,
            failure,
        }
    }
}

impl ApiError {
    /// The response, with the body of this API.
    pub(super) fn respond(self, body: impl Fn(&Failure) -> Value) -> Response {
        let mut response = (self.status, Json(body(&self.failure))).into_response();
        if let Some(seconds) = self.failure.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// The response to a request for this path: Ollama's endpoints have their own body.
    pub(super) fn respond_at(self, path: &str) -> Response {
        if path.starts_with("/api/") {
            return OllamaError::from(self).into_response();
        }
        self.into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(Self::body)
    }
}

const INVALID: &str = "invalid_request_error";
const RATE_LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";

/// The table of status, OpenAI's `type` and `code`. The OpenAI client retries on 408, 409,
/// 429 and 5xx, so no failure that cannot succeed later has one of these.
fn table(kind: FailureKind) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match kind {
        FailureKind::Busy => (S::SERVICE_UNAVAILABLE, SERVER, "busy"),
        FailureKind::QueueFull => (S::TOO_MANY_REQUESTS, RATE_LIMIT, "queue_full"),
        FailureKind::QuotaExceeded => (S::TOO_MANY_REQUESTS, RATE_LIMIT, "quota_exceeded"),
        // nginx's status for a client that closed the connection; nobody reads it.
        FailureKind::Cancelled => (
            S::from_u16(499).unwrap_or(S::BAD_REQUEST),
            SERVER,
            "cancelled",
        ),
        FailureKind::DeadlineExceeded => (S::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded"),
        FailureKind::ContextTooLong => (S::BAD_REQUEST, INVALID, "context_length_exceeded"),
        FailureKind::ModelNotFound => (S::NOT_FOUND, INVALID, "model_not_found"),
        FailureKind::ModelInvalid => (S::UNPROCESSABLE_ENTITY, INVALID, "model_invalid"),
        FailureKind::OutOfMemory => (S::INSUFFICIENT_STORAGE, SERVER, "out_of_memory"),
        FailureKind::Overheated => (S::SERVICE_UNAVAILABLE, SERVER, "overheated"),
        FailureKind::InvalidSchema => (S::BAD_REQUEST, INVALID, "invalid_schema"),
        FailureKind::NotSupported => (S::BAD_REQUEST, INVALID, "not_supported"),
        FailureKind::EngineCrashed => (S::INTERNAL_SERVER_ERROR, SERVER, "engine_crashed"),
        FailureKind::AccessDenied => (S::FORBIDDEN, INVALID, "access_denied"),
        FailureKind::InvalidArgs => (S::BAD_REQUEST, INVALID, "invalid_request"),
        FailureKind::Io | FailureKind::Internal => (S::INTERNAL_SERVER_ERROR, SERVER, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_form() {
        let body = ApiError::body(&Failure::invalid_field("stop", "must be a string"));
        assert_eq!(body["error"]["param"], "stop");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        for (kind, code) in [
            (FailureKind::ContextTooLong, "invalid_prompt"),
            (FailureKind::QuotaExceeded, "rate_limit_exceeded"),
            (FailureKind::EngineCrashed, "server_error"),
        ] {
            assert_eq!(ApiError::response_code(kind), code);
        }
        let response = ApiError::from(Failure::new(FailureKind::QueueFull, "x").retry_after(5))
            .into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "5");
    }
}
