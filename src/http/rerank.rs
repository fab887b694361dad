//! `/v1/rerank`, `/v1/reranking` and the same without version.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use hearth_api::llama_server::{decode_rerank, rerank_response};

use super::body::Body;
use super::{ApiError, Connection};
use crate::daemon::Daemon;
use crate::dispatch::Rerank;

pub(super) async fn rerank(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Response, ApiError> {
    let decoded = decode_rerank(&body)?;
    let request = Rerank {
        model: decoded.model.as_str().into(),
        query: decoded.query,
        documents: decoded.documents,
        top_n: decoded.top_n,
    };
    let caller = connection.0.caller();
    let ranking = daemon.dispatcher.rerank(&caller, &request).await?;
    let documents = decoded
        .return_documents
        .then_some(request.documents.as_slice());
    let (model, tokens) = (&ranking.model, ranking.tokens);
    let response = rerank_response(model, tokens, &ranking.results, documents);
    Ok(Json(response).into_response())
}
