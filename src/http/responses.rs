//! `/v1/responses`, plain and streamed. Neither is stored.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use hearth_api::openai::{ResponsesStream, decode_responses};
use hearth_proto::Failure;

use super::body::Body;
use super::chat::{set_priority, sse_response};
use super::stream::Parts;
use super::{ApiError, Connection, not_enforced};
use crate::daemon::Daemon;

pub(super) async fn responses(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_responses(&body)?;
    set_priority(&mut request.chat.submission, &headers)?;
    let caller = connection.0.caller();
    let candidates = daemon
        .dispatcher
        .submit_candidates(&caller, &request.chat.submission, 1)
        .await?;
    let id = candidates.ids().first().copied().unwrap_or_default();
    let chunks = ResponsesStream::new(id, candidates.model(), &request);
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.chat.stream {
        events(Parts::open(candidates, chunks).await?)
    } else {
        let answers = candidates.collect().await?;
        let answer = answers.first().ok_or_else(Failure::cancelled)?;
        Json(chunks.whole(answer)).into_response()
    };
    not_enforced::name(&places, &mut response);
    Ok(response)
}

/// The stream of events, each with its name.
fn events(parts: Parts<ResponsesStream>) -> Response {
    sse_response(stream::unfold(parts, |mut parts| async {
        let object = match parts.next().await? {
            Ok(object) => object,
            Err(failure) => {
                let code = failure.kind.names().openai_type.response_code();
                parts.chunks().failed(code, &failure.message)
            }
        };
        let kind = object["type"].as_str().unwrap_or_default();
        let event = sse::Event::default().event(kind).data(object.to_string());
        Some((Ok::<_, Infallible>(event), parts))
    }))
}
