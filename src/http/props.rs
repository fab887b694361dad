//! `/props`, in the form of llama.cpp's server.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::ApiError;
use crate::service::Service;

/// What the daemon says it is, where llama.cpp's server names its build.
const BUILD: &str = concat!("hearthd ", env!("CARGO_PKG_VERSION"));

/// Clients read from it how long a conversation may be, and how the model wants it. The
/// engine is not asked, and nothing is loaded for it.
pub(super) async fn props(State(service): State<Service>) -> Result<Json<Value>, ApiError> {
    let props = service.props()?;
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": props.context_size},
        "total_slots": props.slots,
        "model_alias": props.model,
        "model_path": format!("{}.gguf", props.model),
        "chat_template": props.chat_template,
        "modalities": {"vision": false, "audio": false},
        "build_info": BUILD,
        "is_sleeping": !props.is_loaded,
        "endpoint_slots": false,
        "endpoint_props": false,
        "endpoint_metrics": true,
    })))
}
