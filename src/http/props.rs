//! `/props`, in the form of llama.cpp's server.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::ApiError;
use crate::daemon::Daemon;

/// The daemon's name and version, where llama.cpp's server reports its build.
const BUILD: &str = concat!("hearthd ", env!("CARGO_PKG_VERSION"));

/// Clients read the context size and the chat template from it. The engine is not asked,
/// and no model is loaded for it.
pub(super) async fn props(State(daemon): State<Daemon>) -> Result<Json<Value>, ApiError> {
    let props = daemon.props().await?;
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": props.context_size},
        "total_slots": props.slots,
        "model_alias": props.model,
        "model_path": format!("{}.gguf", props.model),
        "chat_template": props.chat_template,
        "modalities": {"vision": props.vision, "audio": props.audio},
        "build_info": BUILD,
        "is_sleeping": !props.is_loaded,
        "endpoint_slots": false,
        "endpoint_props": false,
        "endpoint_metrics": true,
    })))
}
