//! `/api/blobs/…`: files that are sent before a model is created from them.

use std::time::Duration;

use axum::body::{Body as Incoming, HttpBody as _};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use hearth_proto::{Failure, FailureKind};

use super::super::{ApiError, Connection};
use super::OllamaError;
use crate::daemon::Daemon;

/// Whether the service has it: clients ask before they send gigabytes.
pub(super) async fn head(
    State(daemon): State<Daemon>,
    Path(digest): Path<String>,
) -> Result<StatusCode, OllamaError> {
    if daemon.store.has_blob(&digest).await? {
        return Ok(StatusCode::OK);
    }
    let message = format!("there is no blob {digest}");
    let failure = Failure::new(FailureKind::ModelNotFound, message);
    Err(failure.into())
}

pub(super) async fn receive(
    State(daemon): State<Daemon>,
    Path(digest): Path<String>,
    connection: Connection,
    body: Incoming,
) -> Result<StatusCode, OllamaError> {
    let caller = connection.0.caller();
    let announced = body.size_hint().lower();
    let mut upload = daemon
        .store
        .receive_blob(&caller, &digest, announced)
        .await?;
    if daemon.store.has_blob(&digest).await? {
        return Ok(StatusCode::OK);
    }
    // A model takes minutes: the limit of a body's time applies to each part of it.
    let patience = Duration::from_secs(u64::from(daemon.config.get().http.body_s));
    let mut parts = body.into_data_stream();
    loop {
        let part = tokio::time::timeout(patience, parts.next()).await;
        let part = part.map_err(|_| {
            let message = "the blob did not arrive (`http.body_s`): send it again";
            ApiError::new(StatusCode::REQUEST_TIMEOUT, Failure::invalid(message))
        })?;
        match part {
            Some(Ok(bytes)) => upload.write(&bytes).await?,
            Some(Err(error)) => {
                let message = format!("the blob is incomplete ({error}): send it again");
                return Err(Failure::invalid(message).into());
            }
            None => break,
        }
    }
    upload.finish().await?;
    Ok(StatusCode::CREATED)
}
