//! `/health`: whether the service is healthy, and the state of the service and the board.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use hearth_proto::units::{Bytes, MilliCelsius, Permille};
use serde_json::{Value, json};

use super::token::Unauthenticated;
use crate::daemon::{BoardSnapshot, Daemon, State as DaemonState};

/// An unauthenticated client gets only whether the service is healthy.
pub(super) async fn health(
    State(daemon): State<Daemon>,
    unauthenticated: Option<Extension<Unauthenticated>>,
) -> Response {
    let board = daemon.board_snapshot().await;
    let status = daemon.status();
    let usable = !status.draining && status.state != DaemonState::Failed;
    let (code, word) = if usable {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let mut health = json!({"status": word});
    if unauthenticated.is_none() {
        health["service"] = json!(status);
        health["board"] = to_json(&board);
    }
    (code, Json(health)).into_response()
}

/// Encodes with the names of `GetBoard`; unknown values are null.
fn to_json(board: &BoardSnapshot) -> Value {
    let share = |permille: Permille| f64::from(permille.0) / 1000.0;
    let bytes = |bytes: Option<Bytes>| bytes.map(|b| b.0);
    let celsius = |temperature: Option<MilliCelsius>| temperature.map(MilliCelsius::celsius);
    let ages = board.decisions.iter();
    let decisions: Vec<_> = ages.map(|(age, text)| (age.as_secs(), text)).collect();
    json!({
        "thermal_state": board.thermal_state,
        "temperature_celsius": celsius(board.temperature),
        "temperature_limit_celsius": celsius(board.temperature_limit),
        "threads": board.threads,
        "threads_max": board.threads_max,
        "duty": share(board.duty),
        "frequency_cap": board.frequency_cap.map(share),
        "firmware": board.firmware,
        "memory_state": board.memory_state,
        "memory_total_bytes": bytes(board.memory_total),
        "memory_available_bytes": bytes(board.memory_available),
        "engine_bytes": bytes(board.engines),
        "tokens_generated": board.tokens_generated,
        "decisions": decisions,
    })
}
