//! The installed models and those in memory.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hearth_api::ollama::{decode_copy, decode_model, name_of, process, tag};
use hearth_proto::ModelRef;
use serde_json::{Value, json};

use super::super::Connection;
use super::super::body::Body;
use super::OllamaError;
use crate::caller::Permission;
use crate::daemon::Daemon;

/// The version of Ollama whose API is implemented. Clients compare it to know what they may
/// request.
const API_VERSION: &str = "0.12.0";

pub(super) async fn tags(State(daemon): State<Daemon>) -> Response {
    daemon.store.want_digests();
    let models: Vec<Value> = daemon.models().await.iter().map(tag).collect();
    Json(json!({"models": models})).into_response()
}

pub(super) async fn ps(State(daemon): State<Daemon>) -> Response {
    daemon.store.want_digests();
    let (pool, models) = (daemon.pool.status(), daemon.models().await);
    // The context size is known once the model has been loaded.
    let loaded = models.iter().filter_map(|model| {
        let info = pool.get(&model.name)?.info.as_ref()?;
        let stays = daemon.pool.stays(&model.name);
        Some(process(model, info.context_size, SystemTime::now(), stays))
    });
    Json(json!({"models": loaded.collect::<Vec<_>>()})).into_response()
}

pub(super) async fn version() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({"version": API_VERSION, "hearthd": version})).into_response()
}

pub(super) async fn copy(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let (source, destination) = decode_copy(&body)?;
    let caller = connection.0.caller();
    let source = ModelRef::named(name_of(&source));
    let destination = name_of(&destination);
    daemon.store.copy(&caller, &source, destination).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn remove(
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
