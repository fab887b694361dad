//! `/v1/embeddings`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hearth_api::openai::decode_embeddings;
use hearth_api::shorten;
use hearth_proto::Failure;
use serde_json::json;

use super::body::Body;
use super::{ApiError, Connection};
use crate::daemon::Daemon;
use crate::dispatch::Embeddings;

pub(super) async fn embeddings(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Response, ApiError> {
    let request = decode_embeddings(&body)?;
    let caller = connection.0.caller();
    let mut made = daemon
        .dispatcher
        .embed(&caller, &request.model.as_str().into(), request.texts)
        .await?;
    fit(&mut made, request.dimensions)?;
    let data = made.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = if request.as_base64 {
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

/// Shortens vectors to the requested length.
fn fit(made: &mut Embeddings, wanted: Option<u32>) -> Result<(), Failure> {
    let width = made.vectors.first().map_or(0, Vec::len);
    let Some(wanted) = wanted else { return Ok(()) };
    if usize::try_from(wanted).is_ok_and(|wanted| wanted > width) {
        return Err(Failure::invalid_field(
            "dimensions",
            format_args!("is {wanted}, but the vectors of this model have {width}"),
        ));
    }
    for vector in &mut made.vectors {
        shorten(vector, wanted);
    }
    Ok(())
}
