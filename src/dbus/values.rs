//! The service's values as dictionaries for the bus.

use std::collections::HashMap;

use hearth_proto::units::{MilliCelsius, Permille};
use hearth_proto::{ModelEntry, ModelKind};
use serde_json::Value;
use zbus::{OwnedVariant, Str, Variant};

use super::options::json;
use crate::daemon::{BoardSnapshot, ModelStatus};
use crate::dispatch::Ranking;
use crate::prompt_cache::PromptEntry;
use crate::tuning::Tuning;

/// A model or an adapter as `ModelStore.List` shows it.
pub(super) fn entry(
    model: ModelEntry,
    status: Option<&ModelStatus>,
) -> HashMap<&'static str, OwnedVariant> {
    let state = status.map(|status| status.state).unwrap_or_default();
    let memory_bytes = status.map_or(0, |status| status.memory_bytes);
    HashMap::from([
        ("state", text(state.as_str().to_owned())),
        ("memory_bytes", memory_bytes.into()),
        ("name", text(model.name)),
        ("size_bytes", model.size_bytes.into()),
        ("projector_bytes", model.projector_bytes.into()),
        ("architecture", text(model.architecture)),
        ("quantization", text(model.quantization)),
        ("context_train", model.context_train.into()),
        ("parameters", model.parameters.into()),
        (
            "kind",
            text(model.kind.map_or("", ModelKind::as_str).to_owned()),
        ),
        ("vision", model.vision.into()),
        ("audio", model.audio.into()),
        ("loaded", model.loaded.into()),
        ("is_default", model.is_default.into()),
        ("packaged", model.packaged.into()),
        ("modified_s", model.modified_s.into()),
        ("problem", text(model.problem)),
        ("draft", text(model.draft)),
        ("adapters", array(model.adapters)),
        ("bases", array(model.bases)),
    ])
}

/// The result of `Rerank`.
pub(super) fn ranks(ranking: &Ranking) -> Vec<(u32, f64)> {
    let rank = |(index, score): &(usize, f32)| {
        (u32::try_from(*index).unwrap_or(u32::MAX), f64::from(*score))
    };
    ranking.results.iter().map(rank).collect()
}

/// The board, and the files that it was read from, as `GetBoard` shows them.
pub(super) fn board(
    board: BoardSnapshot,
    sources: Vec<String>,
) -> HashMap<&'static str, OwnedVariant> {
    let share = |permille: Permille| f64::from(permille.0) / 1000.0;
    let ages = board.decisions.into_iter();
    let decisions: Vec<(u64, String)> = ages.map(|(age, text)| (age.as_secs(), text)).collect();
    let firmware: Vec<String> = board.firmware.into_iter().map(str::to_owned).collect();
    let always = [
        ("thermal_state", text(board.thermal_state.to_owned())),
        ("threads", board.threads.into()),
        ("threads_max", board.threads_max.into()),
        ("duty", share(board.duty).into()),
        ("firmware", array(firmware)),
        ("sources", array(sources)),
        ("tokens_generated", board.tokens_generated.into()),
        ("memory_state", text(board.memory_state.to_owned())),
        ("decisions", array(decisions)),
    ];
    let bytes = [
        ("memory_total_bytes", board.memory_total),
        ("memory_available_bytes", board.memory_available),
        ("engine_bytes", board.engines),
    ];
    let floats = [
        (
            "temperature_celsius",
            board.temperature.map(MilliCelsius::celsius),
        ),
        (
            "temperature_limit_celsius",
            board.temperature_limit.map(MilliCelsius::celsius),
        ),
        ("frequency_cap", board.frequency_cap.map(share)),
    ];
    let tuning = board.tuning.into_iter().flat_map(|tuning| {
        [
            ("tuning", text(tuning.step)),
            ("tuning_done", tuning.done.into()),
            ("tuning_total", tuning.total.into()),
        ]
    });
    let bytes = bytes
        .into_iter()
        .filter_map(|(key, b)| Some((key, b?.0.into())));
    let floats = floats
        .into_iter()
        .filter_map(|(key, f)| Some((key, f?.into())));
    let always = always.into_iter().chain(tuning);
    always.chain(bytes).chain(floats).collect()
}

/// Measurements as `Tuning.Measure` and `Tuning.List` show them.
pub(super) fn tuning(tuning: &Tuning) -> HashMap<&'static str, OwnedVariant> {
    let best = tuning.best().map_or(0, |(threads, _)| threads);
    let decode: Vec<f64> = tuning.speeds.iter().map(|speed| speed.decode).collect();
    let prefill: Vec<f64> = tuning.speeds.iter().map(|speed| speed.prefill).collect();
    HashMap::from([
        ("model", text(tuning.model.clone())),
        ("quantization", text(tuning.quantization.clone())),
        ("parameters", tuning.parameters.into()),
        ("cores", text(tuning.cores.clone())),
        ("runs", tuning.runs.into()),
        ("measured_s", tuning.measured_s.into()),
        ("decode", array(decode)),
        ("prefill", array(prefill)),
        ("spread", tuning.spread.into()),
        ("steady", tuning.is_steady().into()),
        ("best_threads", best.into()),
        ("explanation", array(tuning.explain())),
    ])
}

/// A measurement as JSON, with the same keys.
pub(super) fn tuning_json(measured: &Tuning) -> String {
    let entries = tuning(measured).into_iter();
    let entries = entries.filter_map(|(key, value)| Some((key.to_owned(), json(&value)?)));
    Value::Object(entries.collect()).to_string()
}

/// An entry of the prompt cache as `PromptCache.List` shows it.
pub(super) fn prompt_entry(prompt: PromptEntry) -> HashMap<&'static str, OwnedVariant> {
    let mut shown = HashMap::from([
        ("model", text(prompt.model)),
        (
            "shared",
            (prompt.uid.is_none() && prompt.problem.is_empty()).into(),
        ),
        ("tokens", prompt.tokens.into()),
        ("size_bytes", prompt.bytes.into()),
        ("used_s", prompt.used_s.into()),
        ("problem", text(prompt.problem)),
    ]);
    if let Some(uid) = prompt.uid {
        shown.insert("uid", uid.into());
    }
    shown
}

fn text(text: String) -> OwnedVariant {
    Str::from(text).into()
}

/// An array as an owned variant; this fails only for file descriptors.
fn array<'a, T: Into<Variant<'a>>>(values: T) -> OwnedVariant {
    values
        .into()
        .try_into()
        .unwrap_or_else(|_| OwnedVariant::from(false))
}
