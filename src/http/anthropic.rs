//! `/v1/messages`: Anthropic's endpoints, and its form of the model list.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::stream;
use hearth_api::anthropic::{MessagesStream, Page, decode_messages, model_object, model_page};
use hearth_proto::{Failure, FailureKind, ModelRef, RequestId};
use serde_json::{Value, json};

use super::body::Body;
use super::chat::{HEARTBEAT, set_priority};
use super::stream::Parts;
use super::{ApiError, Connection, not_enforced};
use crate::daemon::Daemon;

const MESSAGES: &str = "/v1/messages";
/// All clients of Anthropic's API send this header.
const VERSION_HEADER: &str = "anthropic-version";
/// The header with the request's id.
pub(super) const ID_HEADER: HeaderName = HeaderName::from_static("request-id");

/// A failure to be sent in Anthropic's form.
#[derive(Debug)]
pub(super) struct AnthropicError(ApiError);

impl From<ApiError> for AnthropicError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Failure> for AnthropicError {
    fn from(failure: Failure) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response {
        let (status, kind) = status_and_type(self.0.status());
        let body = |failure: &Failure| error_body(kind, failure, None);
        self.0.with_status(status).respond(body)
    }
}

/// Anthropic's status and error type for a status of the other APIs.
fn status_and_type(status: StatusCode) -> (StatusCode, &'static str) {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => {
            let overloaded = StatusCode::from_u16(529).unwrap_or(status);
            return (overloaded, "overloaded_error");
        }
        499.. => "api_error",
        _ => "invalid_request_error",
    };
    (status, kind)
}

/// Anthropic's error object; the id is known once the request was accepted.
fn error_body(kind: &str, failure: &Failure, id: Option<RequestId>) -> Value {
    let message = match failure.kind {
        // Agents find by these words that they have to shorten the conversation.
        FailureKind::ContextTooLong => format!("prompt is too long: {}", failure.message),
        _ => failure.message.clone(),
    };
    json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": id.map(request_id),
    })
}

fn request_id(id: RequestId) -> String {
    format!("req_{id:x}")
}

/// Whether the answers at a path have Anthropic's form.
pub(super) fn has_path(path: &str) -> bool {
    path.strip_prefix(MESSAGES)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the answers at a path have the form of the client's API: the model list.
pub(super) fn is_model_list(path: &str) -> bool {
    let rest = path.strip_prefix("/v1").unwrap_or(path);
    rest.strip_prefix("/models")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a client of Anthropic's API asks: its model list has the path of OpenAI's.
pub(super) fn is_asking(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION_HEADER)
}

pub(super) fn routes() -> Router<Daemon> {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
}

type Answer = Result<Response, AnthropicError>;

async fn messages(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let mut request = decode_messages(&body)?;
    set_priority(&mut request.submission, &headers)?;
    let caller = connection.0.caller();
    let candidates = daemon
        .dispatcher
        .submit_candidates(&caller, &request.submission, 1)
        .await?;
    let id = candidates.ids().first().copied().unwrap_or_default();
    let chunks = MessagesStream::new(id, candidates.model(), &request);
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.stream {
        events(Parts::open(candidates, chunks).await?, id)
    } else {
        let answers = candidates.collect().await?;
        let answer = answers.first().ok_or_else(Failure::cancelled)?;
        Json(chunks.whole(answer)).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&request_id(id)) {
        response.headers_mut().insert(ID_HEADER, value);
    }
    not_enforced::name(&places, &mut response);
    Ok(response)
}

/// Server-sent events, with a `ping` while nothing else comes.
fn events(parts: Parts<MessagesStream>, id: RequestId) -> Response {
    let event = |object: &Value| {
        let kind = object["type"].as_str().unwrap_or_default();
        sse::Event::default().event(kind).data(object.to_string())
    };
    let ping = event(&json!({"type": "ping"}));
    let events = stream::unfold(parts, move |mut parts| async move {
        let object = match parts.next().await? {
            Ok(object) => object,
            Err(failure) => {
                let (_, kind) = status_and_type(ApiError::from(failure.clone()).status());
                error_body(kind, &failure, Some(id))
            }
        };
        Some((Ok::<_, Infallible>(event(&object)), parts))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).event(ping);
    Sse::new(events).keep_alive(keep_alive).into_response()
}

async fn count_tokens(State(daemon): State<Daemon>, connection: Connection, body: Body) -> Answer {
    let request = decode_messages(&body)?;
    let caller = connection.0.caller();
    let rendering = daemon.dispatcher.render(&caller, request.submission);
    let tokens = rendering.await?.tokens.len();
    Ok(Json(json!({"input_tokens": tokens})).into_response())
}

/// The models in Anthropic's form, by pages.
pub(super) async fn models(daemon: &Daemon, uri: &Uri) -> Answer {
    let page = Page::of_query(uri.query().unwrap_or_default());
    let list = model_page(&daemon.models().await, &page)?;
    Ok(Json(list).into_response())
}

/// One of them, by any of its names.
pub(super) async fn model(daemon: &Daemon, id: &str) -> Answer {
    let entry = daemon.model(&ModelRef::named(id)).await?;
    Ok(Json(model_object(&entry)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_status_and_a_type_of_anthropics() {
        for (kind, status, name) in [
            (FailureKind::Busy, 529, "overloaded_error"),
            (FailureKind::QueueFull, 429, "rate_limit_error"),
            (FailureKind::QuotaExceeded, 429, "rate_limit_error"),
            (FailureKind::Cancelled, 499, "api_error"),
            (FailureKind::DeadlineExceeded, 504, "timeout_error"),
            (FailureKind::ContextTooLong, 400, "invalid_request_error"),
            (FailureKind::ModelNotFound, 404, "not_found_error"),
            (FailureKind::ModelInvalid, 422, "invalid_request_error"),
            (FailureKind::OutOfMemory, 507, "api_error"),
            (FailureKind::Overheated, 529, "overloaded_error"),
            (FailureKind::InvalidSchema, 400, "invalid_request_error"),
            (FailureKind::NotSupported, 400, "invalid_request_error"),
            (FailureKind::EngineCrashed, 500, "api_error"),
            (FailureKind::AccessDenied, 403, "permission_error"),
            (FailureKind::InvalidArgs, 400, "invalid_request_error"),
            (FailureKind::Io, 500, "api_error"),
            (FailureKind::Internal, 500, "api_error"),
        ] {
            let error = ApiError::from(Failure::new(kind, "x"));
            let (found, kind) = status_and_type(error.status());
            assert_eq!((found.as_u16(), kind), (status, name));
        }
        for (status, name) in [
            (401, "authentication_error"),
            (405, "invalid_request_error"),
            (408, "timeout_error"),
            (413, "request_too_large"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(status_and_type(status), (status, name));
        }
    }

    #[test]
    fn an_error_is_an_object_with_its_type() {
        let failure = Failure::new(FailureKind::ContextTooLong, "9 tokens");
        assert_eq!(
            error_body("invalid_request_error", &failure, Some(RequestId(7))),
            json!({"type": "error", "request_id": "req_7", "error":
                {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens"}})
        );
    }

    #[test]
    fn only_its_own_paths_have_its_form() {
        for path in [
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/v1/messages/batches",
        ] {
            assert!(has_path(path), "{path}");
        }
        for path in ["/v1/messagesx", "/v1/models", "/api/chat"] {
            assert!(!has_path(path), "{path}");
        }
        for path in ["/v1/models", "/v1/models/x", "/models"] {
            assert!(is_model_list(path), "{path}");
        }
        for path in ["/v1/modelsx", "/v1/chat/completions", "/v1", "/"] {
            assert!(!is_model_list(path), "{path}");
        }
    }
}
