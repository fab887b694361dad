//! `/v1/chat/completions` and `/v1/completions`, plain and streamed.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use hearth_api::Chunks;
use hearth_api::openai::{
    ChatStream, CompletionStream, chat_response, completion_response, decode_chat,
    decode_completion,
};
use hearth_proto::{Failure, Submission};

use super::body::Body;
use super::stream::Parts;
use super::{ApiError, Connection, not_enforced};
use crate::daemon::Daemon;
use crate::dispatch::Candidates;

/// Interval of the heartbeat while a stream is silent.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Chooses the class of a request where the client cannot add a field.
const PRIORITY_HEADER: &str = "x-hearthd-priority";

pub(super) async fn chat(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_chat(&body)?;
    set_priority(&mut request.submission, &headers)?;
    let caller = connection.0.caller();
    let candidates = daemon
        .dispatcher
        .submit_candidates(&caller, &request.submission, request.n)
        .await?;
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.stream {
        let (ids, model) = (candidates.ids(), candidates.model());
        let chunks = ChatStream::new(ids, model, request.include_usage).reporting(request.reports);
        start_stream(candidates, chunks).await?
    } else {
        Json(chat_response(&candidates.collect().await?)).into_response()
    };
    not_enforced::name(&places, &mut response);
    Ok(response)
}

pub(super) async fn completion(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_completion(&body)?;
    for submission in &mut request.submissions {
        set_priority(submission, &headers)?;
    }
    let caller = connection.0.caller();
    let each = u32::try_from(request.form.best_of).unwrap_or(1);
    let candidates = daemon
        .dispatcher
        .submit_all(&caller, &request.submissions, each)
        .await?;
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.stream {
        let (ids, model) = (candidates.ids(), candidates.model());
        let chunks = CompletionStream::new(ids, model, request.form);
        start_stream(candidates, chunks).await?
    } else {
        let answers = candidates.collect().await?;
        Json(completion_response(&answers, &request.form)).into_response()
    };
    not_enforced::name(&places, &mut response);
    Ok(response)
}

pub(super) fn set_priority(
    submission: &mut Submission,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    if let Some(value) = headers.get(PRIORITY_HEADER) {
        let word = value.to_str().unwrap_or_default();
        submission.request.priority = word.parse().map_err(Failure::invalid)?;
    }
    Ok(())
}

/// Server-sent events, with a heartbeat while nothing else comes.
async fn start_stream<C: Chunks + Send + 'static>(
    candidates: Candidates,
    chunks: C,
) -> Result<Response, ApiError> {
    let parts = Parts::open(candidates, chunks).await?;
    let events = stream::unfold(Some(parts), |parts| async {
        let mut parts = parts?;
        let event = sse::Event::default();
        let (event, parts) = match parts.next().await {
            Some(Ok(chunk)) => (event.data(chunk.to_string()), Some(parts)),
            Some(Err(failure)) => (
                event.data(ApiError::body(&failure).to_string()),
                Some(parts),
            ),
            None => (event.data("[DONE]"), None),
        };
        Some((Ok::<_, Infallible>(event), parts))
    });
    Ok(sse_response(events))
}

pub(super) fn sse_response(
    events: impl Stream<Item = Result<sse::Event, Infallible>> + Send + 'static,
) -> Response {
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("working");
    Sse::new(events).keep_alive(keep_alive).into_response()
}
