//! `/api/show`.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use hearth_api::ollama::{Description, decode_show, name_of, show as encode};
use hearth_gguf::MetaValue;
use hearth_proto::{Failure, FailureKind};
use serde_json::{Map, Value};

use super::super::body::Body;
use super::Answer;
use crate::daemon::{Daemon, Metadata};
use crate::models::Defaults;

/// It has a field of its own.
pub(super) const TEMPLATE: &str = "tokenizer.chat_template";
/// What a file recommends for sampling, and Ollama's names for it.
const SAMPLING: [(&str, &str); 9] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("penalty_last_n", "repeat_last_n"),
    ("penalty_repeat", "repeat_penalty"),
    ("mirostat", "mirostat"),
    ("mirostat_tau", "mirostat_tau"),
    ("mirostat_eta", "mirostat_eta"),
];
/// What a file says of its licence.
const LICENSE: [&str; 3] = [
    "general.license",
    "general.license.name",
    "general.license.link",
];

pub(super) async fn show(State(daemon): State<Daemon>, body: Body) -> Answer {
    let request = decode_show(&body)?;
    daemon.store.want_digests();
    let models = daemon.models().await;
    let name = name_of(&request.name);
    let model = models.iter().find(|model| model.name == name);
    let model = model.ok_or_else(|| not_installed(&request.name))?;
    let file = daemon.metadata(&model.name, request.verbose).await?;
    let mut shown = description(file);
    if model.parameters > 0 {
        let count = model.parameters.into();
        shown.info.insert("general.parameter_count".into(), count);
    }
    if let Some(derived) = daemon.store.derived(&model.name) {
        add(&mut shown, &derived.defaults);
    }
    shown.system = request.system.unwrap_or(shown.system);
    Ok(Json(encode(model, &shown)).into_response())
}

fn description(file: Metadata) -> Description {
    let text = |key: &str| match file.model.iter().find(|(name, _)| name == key) {
        Some((_, MetaValue::Text(text))) => Some(text.as_str()),
        _ => None,
    };
    let recommended = SAMPLING.iter().filter_map(|(key, name)| {
        let key = format!("general.sampling.{key}");
        let (_, value) = file.model.iter().find(|(name, _)| *name == key)?;
        Some(((*name).to_owned(), json(value.clone())))
    });
    let license: Vec<&str> = LICENSE.iter().filter_map(|key| text(key)).collect();
    Description {
        template: text(TEMPLATE).unwrap_or_default().to_owned(),
        license: license.join("\n"),
        parameters: recommended.collect(),
        info: object(file.model),
        projector: object(file.projector),
        ..Description::default()
    }
}

/// Adds the settings of a derived model.
fn add(shown: &mut Description, defaults: &Defaults) {
    shown.system.clone_from(&defaults.system);
    let messages = defaults.messages.iter();
    let messages = messages.map(|m| (m.role.clone(), m.content.clone()));
    shown.messages = messages.collect();
    for (name, value) in &defaults.parameters {
        shown.parameters.insert(name.clone(), value.clone());
    }
    if !defaults.license.is_empty() {
        shown.license.clone_from(&defaults.license);
    }
}

/// The key-values as an object.
fn object(pairs: Vec<(String, MetaValue)>) -> Map<String, Value> {
    let shown = pairs.into_iter().filter(|(key, _)| key != TEMPLATE);
    shown.map(|(key, value)| (key, json(value))).collect()
}

fn json(value: MetaValue) -> Value {
    match value {
        MetaValue::Unsigned(n) => n.into(),
        MetaValue::Signed(n) => n.into(),
        // Null, where it is not finite.
        MetaValue::Float(n) => n.into(),
        MetaValue::Flag(flag) => flag.into(),
        MetaValue::Text(text) => text.into(),
        MetaValue::List(list) => list.into_iter().map(json).collect(),
    }
}

fn not_installed(name: &str) -> Failure {
    Failure::new(
        FailureKind::ModelNotFound,
        format!("there is no model {name:?}: /api/tags lists the installed models"),
    )
}
