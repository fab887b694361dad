//! `/props` and `/slots`, in the form of llama.cpp's server.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use hearth_api::llama_server::default_settings;
use hearth_proto::{ChatAbilities, Failure, FailureKind, ModelRef, Use};
use serde_json::{Value, json};

use super::ApiError;
use crate::daemon::Daemon;

/// The daemon's name and version, where llama.cpp's server reports its build.
const BUILD: &str = concat!("hearthd ", env!("CARGO_PKG_VERSION"));

/// Clients read the context size and the chat template from it. The engine is not asked,
/// and no model is loaded for it: what only an engine knows is missing without one.
pub(super) async fn props(State(daemon): State<Daemon>) -> Result<Json<Value>, ApiError> {
    let props = daemon.props().await?;
    let info = props.info.unwrap_or_default();
    Ok(Json(json!({
        "default_generation_settings": {
            "n_ctx": props.context_size,
            "params": default_settings(&info.sampling),
        },
        "total_slots": props.slots,
        "model_alias": props.model,
        "model_path": format!("{}.gguf", props.model),
        "chat_template": props.chat_template,
        "chat_template_caps": capabilities(info.chat),
        "bos_token": info.bos_token,
        "eos_token": info.eos_token,
        "modalities": {"vision": props.vision, "audio": props.audio},
        "build_info": BUILD,
        "is_sleeping": !props.is_loaded,
        "endpoint_slots": true,
        "endpoint_props": false,
        "endpoint_metrics": true,
    })))
}

fn capabilities(chat: ChatAbilities) -> Value {
    json!({
        "supports_system_role": chat.system_role,
        "supports_tools": chat.native_tools,
        "supports_tool_calls": chat.native_tools,
        "supports_parallel_tool_calls": chat.parallel_tool_calls,
        "supports_thinking": chat.thinking,
    })
}

/// A value of the query, as it is written.
fn query<'a>(uri: &'a Uri, wanted: &str) -> Option<&'a str> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name == wanted).then_some(value),
        None => (pair == wanted).then_some(""),
    })
}

/// The slots of a loaded model, without a name of the one that `/props` describes. Which request
/// is in which slot is not known: the busy ones come first. They show no texts, since other
/// users' requests are among them.
pub(super) async fn slots(State(daemon): State<Daemon>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let pool = daemon.pool.status();
    let wanted = ModelRef::from(query(&uri, "model"));
    let resident = match wanted.name() {
        Some(_) => {
            let name = daemon.store.find_for(&wanted, Use::Chat).await?.name;
            pool.get(&name)
        }
        None => pool.first(),
    };
    let loaded = resident.and_then(|model| Some((model, model.info.as_ref()?)));
    let busy = loaded.map_or_else(Vec::new, |(model, _)| {
        daemon.dispatcher.processing(&model.name)
    });
    let slots = loaded.map_or(0, |(_, info)| info.slots);
    let has_room = (busy.len() as u64) < u64::from(slots);
    let wants_room = query(&uri, "fail_on_no_slot").unwrap_or_default();
    if !has_room && !["", "0", "false"].contains(&wants_room) {
        let failure = Failure::new(FailureKind::Busy, "no slot is free: try again later");
        return Err(failure.about("fail_on_no_slot").into());
    }
    let mut busy = busy.into_iter();
    let slot = |id: u32| {
        let mut slot = json!({
            "id": id,
            "n_ctx": loaded.map_or(0, |(_, info)| info.context_size),
            "speculative": loaded.is_some_and(|(model, _)| model.draft.is_some()),
            "is_processing": false,
        });
        if let Some(processing) = busy.next() {
            slot["is_processing"] = true.into();
            slot["id_task"] = processing.id.number().into();
            slot["next_token"] = json!([{
                "has_next_token": true,
                "n_remain": processing.remaining.map_or(-1, i64::from),
                "n_decoded": processing.generated,
            }]);
        }
        slot
    };
    Ok(Json((0..slots).map(slot).collect()))
}
