//! `/lora-adapters`, in the form of llama.cpp's server.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::ApiError;
use crate::daemon::Daemon;

/// The adapters of the model that `/props` describes. The scale is that of a request which names
/// none.
pub(super) async fn adapters(State(daemon): State<Daemon>) -> Result<Json<Value>, ApiError> {
    let names = daemon.adapters_in_use().await?;
    let entries = (0..).zip(&names).map(
        |(id, name): (u32, _)| json!({"id": id, "path": format!("{name}.gguf"), "scale": 0.0}),
    );
    Ok(Json(entries.collect()))
}
