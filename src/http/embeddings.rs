//! `/v1/embeddings`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::{ApiError, Connection};
use crate::daemon::Daemon;
use crate::dispatch::Embeddings;
use hearth_proto::{Failure, FailureKind};

/// OpenAI's request; other fields are ignored.
#[derive(Deserialize)]
struct Request {
    input: Value,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<u32>,
}

pub(super) async fn embeddings(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Response, ApiError> {
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| Failure::invalid(format!("the request is not valid: {error}")))?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let what = "must be \"float\" or \"base64\"";
            return Err(Failure::invalid_field("encoding_format", what).into());
        }
    };
    let texts = texts(request.input)?;
    let caller = connection.0.caller();
    let model = request.model.unwrap_or_default();
    let made = daemon
        .dispatcher
        .embed(&caller, &model.as_str().into(), texts)
        .await?;
    check_width(&made, request.dimensions)?;
    let data = made.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = if as_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
            json!(BASE64_STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let response = json!({
        "object": "list",
        "model": made.model,
        "data": data.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
    });
    Ok(Json(response).into_response())
}

/// Refuses vectors that do not have the requested length.
pub(super) fn check_width(made: &Embeddings, wanted: Option<u32>) -> Result<(), Failure> {
    let width = made.vectors.first().map_or(0, Vec::len);
    if wanted.is_none_or(|wanted| usize::try_from(wanted) == Ok(width)) {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::NotSupported,
        format!("`dimensions`: this model's vectors have {width}, they are not shortened"),
    )
    .about("dimensions"))
}

pub(super) fn texts(input: Value) -> Result<Vec<String>, Failure> {
    let wrong = || Failure::invalid_field("input", "must be a string or a list of strings");
    match input {
        Value::String(text) => Ok(vec![text]),
        Value::Array(list) => list
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                Value::Number(_) | Value::Array(_) => Err(Failure::of_field(
                    FailureKind::NotSupported,
                    "input",
                    "as token numbers is not supported: send the text",
                )),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}
