//! `/api/…`: Ollama's endpoints.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::body::{Body as Sent, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream;
use hearth_api::ollama::{
    Form, OllamaStream, Request, decode_chat, decode_copy, decode_embed, decode_generate,
    decode_model, name_of, process, show as describe, tag, tagged,
};
use hearth_policy::holds::Keep;
use hearth_proto::{Failure, FailureKind, KeepAlive, ModelEntry, ModelRef};
use serde_json::{Value, json};

use super::body::Body;
use super::chat::set_priority;
use super::embeddings::check_width;
use super::stream::Parts;
use super::{ApiError, Connection};
use crate::caller::{Caller, Permission};
use crate::daemon::Daemon;
use crate::dispatch::Embeddings;

/// The version of Ollama whose API is implemented. Clients compare it to know what they may
/// request.
const API_VERSION: &str = "0.12.0";
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
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
        .route("/api/version", get(version))
        .route("/api/pull", post(pull))
        .route("/api/copy", post(copy))
        .route("/api/delete", delete(remove))
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
    if request.stream {
        let id = candidates.ids().first().copied().unwrap_or_default();
        let lines = OllamaStream::new(form, &name, id, elapsed);
        let parts = Parts::open(candidates, lines).await?;
        return Ok(lines_of(stream::unfold(parts, |mut parts| async {
            let line = match parts.next().await? {
                Ok(object) => object,
                Err(failure) => error_line(&failure),
            };
            Some((line, parts))
        })));
    }
    let answers = candidates.collect().await?;
    let answer = answers.first().ok_or_else(Failure::cancelled)?;
    Ok(Json(form.response(&name, answer, elapsed())).into_response())
}

async fn embed(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let elapsed = stopwatch(&daemon);
    let (name, made) = vectors(&daemon, &connection, &headers, body).await?;
    let took = u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Json(json!({
        "model": name, "embeddings": made.vectors,
        "total_duration": took, "prompt_eval_count": made.tokens,
    }))
    .into_response())
}

/// The older form: one text, one vector.
async fn embeddings(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (_, made) = vectors(&daemon, &connection, &headers, body).await?;
    let vector = made.vectors.into_iter().next().unwrap_or_default();
    Ok(Json(json!({"embedding": vector})).into_response())
}

/// Vectors, and the model's name for the client. Without a text the model is only loaded.
async fn vectors(
    daemon: &Daemon,
    connection: &Connection,
    headers: &HeaderMap,
    body: Body,
) -> Result<(String, Embeddings), OllamaError> {
    let request = decode_embed(&body)?;
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
    let made = daemon
        .dispatcher
        .embed(&caller, &model.into(), request.texts)
        .await;
    if let Ok(made) = &made {
        daemon.dispatcher.used(&caller, &made.model);
    }
    let made = made?;
    check_width(&made, request.dimensions)?;
    let name = match request.name {
        name if name.is_empty() => tagged(&made.model),
        name => name,
    };
    Ok((name, made))
}

async fn tags(State(daemon): State<Daemon>) -> Response {
    let models: Vec<Value> = daemon.models().await.iter().map(tag).collect();
    Json(json!({"models": models})).into_response()
}

async fn ps(State(daemon): State<Daemon>) -> Response {
    let (pool, models) = (daemon.pool.status(), daemon.models().await);
    // The context size is known once the model has been loaded.
    let loaded = models.iter().filter_map(|model| {
        let info = pool.get(&model.name)?.info.as_ref()?;
        let stays = daemon.pool.stays(&model.name);
        Some(process(model, info.context_size, SystemTime::now(), stays))
    });
    Json(json!({"models": loaded.collect::<Vec<_>>()})).into_response()
}

async fn show(State(daemon): State<Daemon>, body: Body) -> Answer {
    let (name, _) = decode_model(&body)?;
    let model = installed(&daemon, &name)
        .await
        .ok_or_else(|| not_installed(&name))?;
    Ok(Json(describe(&model)).into_response())
}

async fn version() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({"version": API_VERSION, "hearthd": version})).into_response()
}

/// The daemon downloads nothing: pulling succeeds for an installed model only.
async fn pull(State(daemon): State<Daemon>, body: Body) -> Answer {
    let (name, streams) = decode_model(&body)?;
    if installed(&daemon, &name).await.is_none() {
        let message = format!(
            "{name} is not installed, and the service has no network access: run `sudo hearthctl \
             pull ollama:{name}`"
        );
        return Err(Failure::new(FailureKind::ModelNotFound, message).into());
    }
    let success = json!({"status": "success"});
    if !streams {
        return Ok(Json(success).into_response());
    }
    let manifest = json!({"status": "pulling manifest"});
    Ok(lines_of(stream::iter([manifest, success])))
}

async fn copy(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let (source, destination) = decode_copy(&body)?;
    let caller = connection.0.caller();
    daemon
        .store
        .copy(
            &caller,
            &ModelRef::named(name_of(&source)),
            name_of(&destination),
        )
        .await?;
    Ok(StatusCode::OK)
}

async fn remove(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let (name, _) = decode_model(&body)?;
    let caller = connection.0.caller();
    daemon
        .remove_model(&caller, Permission::ByRule, name_of(&name))
        .await?;
    Ok(StatusCode::OK)
}

async fn installed(daemon: &Daemon, name: &str) -> Option<ModelEntry> {
    let models = daemon.models().await.into_iter();
    models.into_iter().find(|model| model.name == name_of(name))
}

fn not_installed(name: &str) -> Failure {
    Failure::new(
        FailureKind::ModelNotFound,
        format!("there is no model {name:?}: /api/tags lists the installed models"),
    )
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
