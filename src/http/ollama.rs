//! `/api/…`: Ollama's endpoints.

mod blobs;
mod create;
mod models;
mod pull;
mod show;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body as Sent, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, head, post};
use axum::{Json, Router};
use futures_util::stream;
use hearth_api::ollama::{
    Form, OllamaStream, Request, decode_chat, decode_embed, decode_generate, name_of, tagged,
};
use hearth_policy::holds::Keep;
use hearth_proto::{Failure, KeepAlive};
use serde_json::{Value, json};

use super::body::Body;
use super::chat::set_priority;
use super::stream::Parts;
use super::{ApiError, Connection, not_enforced};
use crate::caller::Caller;
use crate::daemon::Daemon;
use crate::dispatch::{Embeddings, Overlong};

const NDJSON: &str = "application/x-ndjson";

/// A failure to be sent in Ollama's form.
pub(super) struct OllamaError(ApiError);

impl From<ApiError> for OllamaError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Failure> for OllamaError {
    fn from(failure: Failure) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        self.0.respond(error_line)
    }
}

/// Ollama's error object.
pub(super) fn error_line(failure: &Failure) -> Value {
    json!({"error": failure.message})
}

type Answer = Result<Response, OllamaError>;

pub(super) fn routes() -> Router<Daemon> {
    Router::new()
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/embed", post(embed))
        .route("/api/embeddings", post(embeddings))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(show::show))
        .route("/api/version", get(models::version))
        .route("/api/pull", post(pull::pull))
        .route("/api/push", post(pull::push))
        .route("/api/copy", post(models::copy))
        .route("/api/create", post(create::create))
        .route("/api/blobs/{digest}", head(blobs::head))
        .route("/api/blobs/{digest}", post(blobs::receive))
        .route("/api/delete", delete(models::remove))
}

async fn chat(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request = decode_chat(&body)?;
    answer(&daemon, Form::Chat, &connection, &headers, request).await
}

async fn generate(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request = decode_generate(&body)?;
    answer(&daemon, Form::Generate, &connection, &headers, request).await
}

async fn answer(
    daemon: &Daemon,
    form: Form,
    connection: &Connection,
    headers: &HeaderMap,
    mut request: Request,
) -> Answer {
    let elapsed = stopwatch(daemon);
    set_priority(&mut request.submission, headers)?;
    let caller = caller(connection, headers, request.keep_alive);
    if request.is_empty {
        let model = name_of(&request.name);
        let stays = daemon
            .dispatcher
            .load_or_release(&caller, &model.into())
            .await?;
        let reason = if stays { "load" } else { "unload" };
        return Ok(Json(form.nothing(&request.name, reason, elapsed())).into_response());
    }
    let candidates = daemon
        .dispatcher
        .submit_candidates(&caller, &request.submission, 1)
        .await?;
    let name = match request.name {
        name if name.is_empty() => tagged(candidates.model()),
        name => name,
    };
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.stream {
        let id = candidates.ids().first().copied().unwrap_or_default();
        let lines = OllamaStream::new(form, &name, id, elapsed);
        let parts = Parts::open(candidates, lines).await?;
        lines_of(stream::unfold(parts, |mut parts| async {
            let line = match parts.next().await? {
                Ok(object) => object,
                Err(failure) => error_line(&failure),
            };
            Some((line, parts))
        }))
    } else {
        let answers = candidates.collect().await?;
        let answer = answers.first().ok_or_else(Failure::cancelled)?;
        Json(form.response(&name, answer, elapsed())).into_response()
    };
    not_enforced::name(&places, &mut response);
    Ok(response)
}

async fn embed(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let elapsed = stopwatch(&daemon);
    let made = vectors(&daemon, &connection, &headers, body, Overlong::Cut);
    let (name, made) = made.await?;
    let took = u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Json(json!({
        "model": name, "embeddings": made.vectors,
        "total_duration": took, "prompt_eval_count": made.tokens,
    }))
    .into_response())
}

/// The older form: one text, one vector. As in Ollama, a text that is too long is refused.
async fn embeddings(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let made = vectors(&daemon, &connection, &headers, body, Overlong::Refuse);
    let (_, made) = made.await?;
    let vector = made.vectors.into_iter().next().unwrap_or_default();
    Ok(Json(json!({"embedding": vector})).into_response())
}

/// Vectors, and the model's name for the client. Without a text the model is only loaded.
async fn vectors(
    daemon: &Daemon,
    connection: &Connection,
    headers: &HeaderMap,
    body: Body,
    overlong: Overlong,
) -> Result<(String, Embeddings), OllamaError> {
    let mut request = decode_embed(&body)?;
    let overlong = match request.truncate {
        None => overlong,
        Some(true) => Overlong::Cut,
        Some(false) => Overlong::Refuse,
    };
    let caller = caller(connection, headers, request.keep_alive);
    let model = name_of(&request.name);
    if request.texts.is_empty() {
        daemon
            .dispatcher
            .load_or_release(&caller, &model.into())
            .await?;
        let nothing = Embeddings {
            vectors: Vec::new(),
            tokens: 0,
            model: model.to_owned(),
        };
        return Ok((request.name, nothing));
    }
    let texts = std::mem::take(&mut request.texts);
    let made = daemon
        .dispatcher
        .embed_texts(&caller, &model.into(), texts, overlong)
        .await;
    if let Ok(made) = &made {
        daemon.dispatcher.used(&caller, &made.model);
    }
    let mut made = made?;
    for vector in &mut made.vectors {
        request.shorten(vector);
    }
    let name = match request.name {
        name if name.is_empty() => tagged(&made.model),
        name => name,
    };
    Ok((name, made))
}

/// The caller, with the keep-alive that it set.
fn caller(connection: &Connection, headers: &HeaderMap, keep: Option<KeepAlive>) -> Caller {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let client = connection.0.client(agent.unwrap_or_default());
    Caller {
        keep: keep.map(|time| Keep { client, time }),
        ..connection.0.caller()
    }
}

/// Returns a function that reports the time elapsed since this call.
fn stopwatch(daemon: &Daemon) -> impl Fn() -> Duration + Send + use<> {
    let (daemon, began) = (daemon.clone(), daemon.uptime());
    move || daemon.uptime().saturating_sub(began)
}

/// A stream of objects, one per line.
fn lines_of(objects: impl futures_util::Stream<Item = Value> + Send + 'static) -> Response {
    use futures_util::StreamExt as _;
    let lines = objects.map(|object| Ok::<_, Infallible>(Bytes::from(format!("{object}\n"))));
    ([(header::CONTENT_TYPE, NDJSON)], Sent::from_stream(lines)).into_response()
}
