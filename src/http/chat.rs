//! `/v1/chat/completions` and `/v1/completions`, plain and streamed.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::{ApiError, Connection};
use crate::protocol::{Failure, FailureKind};
use crate::service::openai::{
    ChatRequest, ChatStream, chat_response, completion_response, decode_chat, decode_completion,
};
use crate::service::{Choices, Service, StreamEvent};

/// A refusal that comes within this time gets a status of its own; after it, a
/// stream begins so that the client sees a heartbeat.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a silent stream says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Chooses the class of a request where the client cannot add a field.
const PRIORITY_HEADER: &str = "x-hearthd-priority";

pub(super) type Body = Result<Bytes, BytesRejection>;

pub(super) async fn chat(
    State(service): State<Service>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_chat(&whole(body)?)?;
    set_priority(&mut request, &headers)?;
    let caller = connection.0.caller();
    let choices = service.submit_choices(&caller, &request.submission, request.n)?;
    let offer = &request.offer;
    if !request.stream {
        return Ok(Json(chat_response(&choices.collect().await?, offer)).into_response());
    }
    let (ids, model) = (choices.ids(), choices.model());
    let chunks = ChatStream::new(ids, model, offer, request.include_usage);
    start_stream(choices, chunks).await
}

pub(super) async fn completion(
    State(service): State<Service>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut request = decode_completion(&whole(body)?)?;
    set_priority(&mut request, &headers)?;
    if request.stream {
        let failure = Failure::new(
            FailureKind::NotSupported,
            "`stream` works with /v1/chat/completions only",
        );
        return Err(failure.into());
    }
    let caller = connection.0.caller();
    let choices = service.submit_choices(&caller, &request.submission, request.n)?;
    Ok(Json(completion_response(&choices.collect().await?)).into_response())
}

pub(super) fn whole(body: Body) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Failure::new(
                FailureKind::InvalidArgs,
                "the request body is larger than `http.body_max_mib` allows",
            ),
        ),
        status => ApiError::new(status, Failure::invalid(rejection.body_text())),
    })
}

fn set_priority(request: &mut ChatRequest, headers: &HeaderMap) -> Result<(), Failure> {
    if let Some(value) = headers.get(PRIORITY_HEADER) {
        let word = value.to_str().unwrap_or_default();
        request.submission.request.priority = word.parse().map_err(Failure::invalid)?;
    }
    Ok(())
}

/// Waits a little for a refusal, which can still have a status of its own.
async fn start_stream(mut choices: Choices, chunks: ChatStream) -> Result<Response, ApiError> {
    let mut first = None;
    let begun = async {
        while let Some(event) = choices.next().await {
            if !matches!(event.1, StreamEvent::Queued { .. }) {
                return Some(event);
            }
        }
        None
    };
    if let Ok(event) = tokio::time::timeout(PATIENCE, begun).await {
        match event {
            Some((_, StreamEvent::Failed(failure))) => return Err(failure.into()),
            None => return Err(Failure::cancelled().into()),
            event => first = event,
        }
    }
    let state = Writer {
        choices,
        chunks,
        first,
        ready: Vec::new(),
        over: false,
    };
    let events = stream::unfold(state, |mut writer| async {
        let event = writer.next().await?;
        Some((Ok::<_, Infallible>(event), writer))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("working");
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Pulls events and gives out server-sent ones.
struct Writer {
    choices: Choices,
    chunks: ChatStream,
    first: Option<(usize, StreamEvent)>,
    /// Events to send, the next one last.
    ready: Vec<sse::Event>,
    over: bool,
}

impl Writer {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let (index, event) = match self.first.take() {
                Some(event) => event,
                None => self.choices.next().await?,
            };
            let mut chunks = match event {
                StreamEvent::Started {
                    in_reasoning,
                    call_format,
                    ..
                } => {
                    self.chunks.start(index, call_format, in_reasoning);
                    Vec::new()
                }
                StreamEvent::Token { text, logprobs, .. } => {
                    self.chunks.token(index, &text, logprobs)
                }
                StreamEvent::Finished { reason, usage } => {
                    let last = self.chunks.finish(index, reason, &usage);
                    self.over = self.chunks.is_over();
                    last
                }
                StreamEvent::Failed(failure) => {
                    self.over = true;
                    vec![ApiError::body(&failure)]
                }
                _ => Vec::new(),
            };
            if self.over {
                self.ready.push(sse::Event::default().data("[DONE]"));
            }
            chunks.reverse();
            let events = chunks
                .iter()
                .map(|c| sse::Event::default().data(c.to_string()));
            self.ready.extend(events);
        }
    }
}
