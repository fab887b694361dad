//! Failures as OpenAI's error objects with their statuses.

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hearth_proto::Failure;
use serde_json::{Value, json};

use super::anthropic::{self, AnthropicError};
use super::ollama::OllamaError;

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

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The same failure with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// OpenAI's error object.
    pub fn body(failure: &Failure) -> Value {
        let names = failure.kind.names();
        let mut body = json!({"error": {
            "message": failure.message,
            "type": names.openai_type.as_str(),
            "code": names.openai_code,
            "param": failure.field,
        }});
        // As llama-server has them.
        if let Some(size) = failure.size {
            body["error"]["n_prompt_tokens"] = size.tokens.into();
            body["error"]["n_ctx"] = size.context.into();
        }
        body
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.kind.names().status);
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
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

    /// The response to a request for this path with these headers: the endpoints of Ollama and
    /// of Anthropic have their own bodies.
    pub(super) fn respond_at(self, path: &str, headers: &HeaderMap) -> Response {
        if anthropic::has_path(path)
            || anthropic::is_model_list(path) && anthropic::is_asking(headers)
        {
            return AnthropicError::from(self).into_response();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_proto::FailureKind;

    #[test]
    fn openai_form() {
        let body = ApiError::body(&Failure::invalid_field("stop", "must be a string"));
        assert_eq!(body["error"]["param"], "stop");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        for kind in FailureKind::ALL {
            let status = ApiError::from(Failure::new(kind, "x")).status.as_u16();
            assert_eq!(status, kind.names().status);
        }
        let response = ApiError::from(Failure::new(FailureKind::QueueFull, "x").retry_after(5))
            .into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "5");
    }
}
