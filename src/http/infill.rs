//! `/infill`, plain and streamed.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use hearth_api::llama_server::{InfillStream, decode_infill, infill_response};
use hearth_proto::Failure;

use super::body::Body;
use super::chat::{set_priority, sse_response};
use super::stream::Parts;
use super::{ApiError, Connection};
use crate::daemon::Daemon;

pub(super) async fn infill(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_infill(&body)?;
    set_priority(&mut request.submission, &headers)?;
    let caller = connection.0.caller();
    let candidates = daemon
        .dispatcher
        .submit_candidates(&caller, &request.submission, 1)
        .await?;
    if !request.stream {
        let answers = candidates.collect().await?;
        let answer = answers.first().ok_or_else(Failure::cancelled)?;
        return Ok(Json(infill_response(answer)).into_response());
    }
    let chunks = InfillStream::new(candidates.model());
    let parts = Parts::open(candidates, chunks).await?;
    // Without `[DONE]` at the end, as llama-server.
    Ok(sse_response(stream::unfold(parts, |mut parts| async {
        let object = match parts.next().await? {
            Ok(object) => object,
            Err(failure) => ApiError::body(&failure),
        };
        let event = sse::Event::default().data(object.to_string());
        Some((Ok::<_, Infallible>(event), parts))
    })))
}
