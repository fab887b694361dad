//! `/apply-template`, `/tokenize` and `/detokenize`, in the form of llama.cpp's server.

use axum::Json;
use axum::extract::State;
use hearth_api::openai::decode_chat;
use hearth_proto::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::{ApiError, Connection};
use crate::daemon::Daemon;

#[derive(Deserialize)]
struct Text {
    content: String,
    #[serde(default)]
    add_special: bool,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<i32>,
}

/// The prompt that a chat request with this body would have.
pub(super) async fn apply_template(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = decode_chat(&body)?;
    let caller = connection.0.caller();
    let rendering = daemon.dispatcher.render(&caller, request.submission);
    Ok(Json(json!({"prompt": rendering.await?.text})))
}

pub(super) async fn tokenize(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request: Text = serde_json::from_slice(&body).map_err(invalid)?;
    let caller = connection.0.caller();
    let tokens = daemon
        .dispatcher
        .tokenize(&caller, request.content, request.add_special);
    Ok(Json(json!({"tokens": tokens.await?})))
}

pub(super) async fn detokenize(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request: Tokens = serde_json::from_slice(&body).map_err(invalid)?;
    let caller = connection.0.caller();
    let text = daemon
        .dispatcher
        .detokenize(&caller, request.tokens)
        .await?;
    Ok(Json(json!({"content": text})))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: serde_json::Error) -> ApiError {
    Failure::invalid(format!("the request is not valid: {error}")).into()
}
