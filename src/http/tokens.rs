//! `/apply-template`, `/tokenize`, `/detokenize` and the tokens of a chat, in the form of
//! llama.cpp's server.

use axum::Json;
use axum::extract::State;
use hearth_api::llama_server::{decode_detokenize, decode_tokenize, tokenize_response};
use hearth_api::openai::decode_chat;
use hearth_proto::{Failure, ModelRef};
use serde_json::{Value, json};

use super::body::Body;
use super::{ApiError, Connection};
use crate::daemon::Daemon;
use crate::dispatch::{Rendering, Tokenizing};

/// The prompt that a chat request with this body would have.
pub(super) async fn apply_template(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let rendered = render(&daemon, &connection, &body).await?;
    Ok(Json(json!({"prompt": rendered.text})))
}

/// The number of tokens of the prompt that a chat request with this body would have.
pub(super) async fn input_tokens(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let rendered = render(&daemon, &connection, &body).await?;
    Ok(Json(
        json!({"object": "response.input_tokens", "input_tokens": rendered.tokens.len()}),
    ))
}

async fn render(
    daemon: &Daemon,
    connection: &Connection,
    body: &Body,
) -> Result<Rendering, Failure> {
    let request = decode_chat(body)?;
    let caller = connection.0.caller();
    daemon.dispatcher.render(&caller, request.submission).await
}

pub(super) async fn tokenize(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = decode_tokenize(&body)?;
    let caller = connection.0.caller();
    let model = ModelRef::from(request.model.as_deref());
    let how = Tokenizing {
        bos: request.add_special,
        plain: !request.parse_special,
        pieces: request.with_pieces,
    };
    let made = daemon
        .dispatcher
        .tokenize(&caller, &model, request.text, how)
        .await?;
    let pieces = request.with_pieces.then_some(made.pieces.as_slice());
    Ok(Json(tokenize_response(&made.tokens, pieces)))
}

pub(super) async fn detokenize(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let request = decode_detokenize(&body)?;
    let caller = connection.0.caller();
    let model = ModelRef::from(request.model.as_deref());
    let text = daemon
        .dispatcher
        .detokenize(&caller, &model, request.tokens)
        .await?;
    Ok(Json(json!({"content": text})))
}
