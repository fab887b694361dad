//! HTTP over the Unix socket, for clients of OpenAI, Anthropic and Ollama, and for metrics.
//!
//! Transports only translate. A connection that closes drops its handler and with it the
//! request's `Stream`, which cancels only that request.

mod anthropic;
mod body;
mod budget;
mod chat;
mod cross_origin;
mod embeddings;
mod error;
mod half_close;
mod health;
mod llama_server;
mod lora;
mod not_enforced;
mod ollama;
mod page;
mod props;
mod rerank;
mod responses;
mod serve;
mod stream;
mod token;
mod tokens;
mod transcriptions;
mod unread;
mod watched;
mod write_timeout;

use std::future::Future;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use hearth_policy::holds::Client;
use hearth_proto::{Failure, ModelEntry, ModelKind, ModelRef};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

use crate::board::BoardMonitor;
use crate::caller::{Caller, Origin, Principal};
use crate::clock::unix_seconds;
use crate::daemon::Daemon;

pub use error::ApiError;
pub use serve::Connections;

/// Characters of a `User-Agent` that are stored.
const AGENT_MAX: usize = 128;

/// The peer of a connection, as known when it was accepted.
#[derive(Clone, Debug)]
pub struct Peer {
    principal: Principal,
    origin: Origin,
    unit: Option<String>,
}

impl Peer {
    fn new(principal: Principal, origin: Origin) -> Self {
        Self {
            principal,
            origin,
            unit: None,
        }
    }

    /// The same peer, with its systemd unit where that is known.
    async fn identify(self, board: &BoardMonitor) -> Self {
        let unit = match self.origin {
            Origin::Unix(Some(pid)) => board.unit_of(pid).await,
            _ => None,
        };
        Self { unit, ..self }
    }

    fn caller(&self) -> Caller {
        Caller {
            unit: self.unit.clone(),
            ..Caller::new(self.principal, self.origin.clone())
        }
    }

    /// Identifies the client that sets a keep-alive, as far as clients can be told apart.
    fn client(&self, agent: &str) -> Client {
        let pid = match self.origin {
            Origin::Unix(Some(pid)) => i32::try_from(pid).unwrap_or(0),
            _ => 0,
        };
        Client {
            uid: self.principal.uid(),
            pid,
            agent: agent.chars().take(AGENT_MAX).collect(),
        }
    }
}

/// All routes.
pub fn router(daemon: Daemon) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/health", get(health::health))
        .route("/v1/health", get(health::health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/chat/completions", post(chat::chat))
        .route("/v1/completions", post(chat::completion))
        .route("/v1/responses", post(responses::responses))
        .route("/responses", post(responses::responses))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/embeddings", post(embeddings::embeddings))
        .route("/v1/audio/transcriptions", post(transcriptions::transcribe))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v1/reranking", post(rerank::rerank))
        .route("/rerank", post(rerank::rerank))
        .route("/reranking", post(rerank::rerank))
        .merge(anthropic::routes())
        .merge(llama_server::routes())
        .merge(ollama::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(daemon)
}

impl Connections {
    /// Serves a Unix socket until `stop` resolves; open answers are finished.
    pub async fn serve_unix(self, listener: UnixListener, stop: impl Future<Output = ()>) {
        let app = router(self.daemon.clone());
        self.serve(listener, app, stop).await;
    }

    /// As [`Self::serve_unix`] on a loopback TCP socket. Browsers can reach it, so requests
    /// must name this machine, or what is configured, in their `Host` and `Origin` headers,
    /// and have the token if one is configured.
    pub async fn serve_tcp(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let app = router(self.daemon.clone())
            .layer(middleware::from_fn_with_state(
                self.daemon.clone(),
                token::check,
            ))
            .layer(cross_origin::layer(self.daemon.clone()))
            .layer(middleware::from_fn_with_state(
                self.daemon.clone(),
                cross_origin::check,
            ));
        self.serve(listener, app, stop).await;
    }
}

type Connection = ConnectInfo<Peer>;

async fn metrics(State(daemon): State<Daemon>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let started = unix_seconds().saturating_sub(daemon.uptime().as_secs());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // As llama-server names it.
        (
            HeaderName::from_static("process-start-time-unix"),
            started.into(),
        ),
    ];
    (headers, daemon.metrics().await).into_response()
}

/// The installed models, in the form of the client's API.
async fn models(State(daemon): State<Daemon>, headers: HeaderMap, uri: Uri) -> Response {
    if anthropic::is_asking(&headers) {
        return anthropic::models(&daemon, &uri).await.into_response();
    }
    let data: Vec<_> = daemon.models().await.iter().map(model_object).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// One of them, by any of its names.
async fn model(
    State(daemon): State<Daemon>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if anthropic::is_asking(&headers) {
        return Ok(anthropic::model(&daemon, &id).await.into_response());
    }
    let entry = daemon.model(&ModelRef::named(&id)).await?;
    Ok(Json(model_object(&entry)).into_response())
}

/// A model in the form of OpenAI's API.
fn model_object(model: &ModelEntry) -> Value {
    json!({
        "id": model.name, "object": "model", "created": model.modified_s, "owned_by": "hearthd",
        "meta": {"size": model.size_bytes, "n_params": model.parameters,
                 "n_ctx_train": model.context_train, "quantization": model.quantization,
                 "kind": model.kind.map_or("", ModelKind::as_str), "loaded": model.loaded,
                 "adapters": model.adapters, "vision": model.vision, "audio": model.audio},
    })
}

async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    // A client that wants to read, cancel or delete a response by its id.
    let message = if path.starts_with("/v1/responses/") || path.starts_with("/responses/") {
        "responses are not stored: keep the answer of POST /v1/responses, and send the whole \
         conversation as `input`; closing the connection cancels a response"
            .to_owned()
    } else {
        format!("there is no endpoint {path}: GET / lists the endpoints")
    };
    ApiError::new(StatusCode::NOT_FOUND, Failure::invalid(message)).respond_at(path, &headers)
}

async fn wrong_method(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let message = format!("{path} does not support {method}: GET / lists the endpoints");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Failure::invalid(message))
        .respond_at(path, &headers)
}
