//! The daemon's state in one value, which the bus properties, `/health` and the metrics
//! show.

use hearth_policy::governor::MemoryState;
use serde::Serialize;

use crate::board::BoardStatus;
use crate::dispatch::QueueStatus;
use crate::engines::PoolStatus;

/// The daemon's state in one word, as in the bus property `State`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No model is loaded.
    #[default]
    Unloaded,
    /// A model is being loaded.
    Loading,
    /// A model is loaded, and no request runs.
    Ready,
    /// Requests run.
    Busy,
    /// A model is loaded, and the governor limits it; see `LimitReason`.
    Limited,
    /// The last load failed.
    Failed,
}

impl State {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// The status of all owners together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// The state in one word.
    pub state: State,
    /// The name of the loaded (or loading) model that was used last, one that generates
    /// before others; empty when none.
    pub model: String,
    /// Context in tokens; 0 when no model is loaded.
    pub context_size: u32,
    /// Threads that the engine may use now.
    pub active_threads: u32,
    /// Size of the engine's pool.
    pub max_threads: u32,
    /// `cool`, `warm`, `hot`, `limit`, `emergency`.
    pub thermal_state: &'static str,
    /// Hottest CPU zone in degrees, where the board has one.
    pub temperature_celsius: Option<f64>,
    /// `normal`, `moderate`, `critical`, `emergency`.
    pub memory_state: &'static str,
    /// Why the service is limited or failed; empty when it is not.
    pub limit_reason: String,
    /// Requests waiting.
    pub queue_length: u32,
    /// Requests that the engine processes.
    pub active_jobs: u32,
    /// Decode speed of the last finished answer.
    pub tokens_per_second: f64,
    /// The engine's CPU kernels, e.g. `haswell (AVX2, FMA)`; empty before the first load.
    pub cpu: String,
    /// Process id of the engine, where one runs.
    pub engine_pid: Option<u32>,
    /// Engine processes that crashed or were killed since the daemon started.
    pub engine_crashes: u64,
    /// Whether the service is stopping.
    pub draining: bool,
}

impl Status {
    /// The combined status.
    pub(super) fn of(board: &BoardStatus, pool: &PoolStatus, queue: &QueueStatus) -> Self {
        let resident = pool.first();
        let info = resident.and_then(|model| model.info.as_ref());
        let verdict = &board.verdict;
        let state = match (resident, info) {
            (None, _) if pool.failed.is_some() => State::Failed,
            (None, _) if !pool.wanted.is_empty() => State::Loading,
            (None, _) => State::Unloaded,
            (Some(_), None) => State::Loading,
            (Some(_), Some(_)) if !verdict.reason.is_empty() => State::Limited,
            (Some(_), Some(_)) if queue.running == 0 => State::Ready,
            (Some(_), Some(_)) => State::Busy,
        };
        let model = resident.map(|model| &model.name).or(pool.wanted.first());
        let failed = pool.failed.as_ref().map(ToString::to_string);
        Self {
            state,
            model: model.cloned().unwrap_or_default(),
            context_size: info.map_or(0, |info| info.context_size),
            active_threads: info.map_or(0, |_| board.limits.threads),
            max_threads: board.threads_max,
            thermal_state: verdict.thermal.as_str(),
            temperature_celsius: board.temperature_celsius(),
            memory_state: verdict.memory.as_str(),
            limit_reason: failed.unwrap_or_else(|| limit_reason(board, pool)),
            queue_length: queue.queued,
            active_jobs: queue.running,
            tokens_per_second: queue.tokens_per_second,
            cpu: pool.cpu.clone(),
            engine_pid: resident.and_then(|model| model.pid),
            engine_crashes: pool.crashes,
            draining: queue.draining,
        }
    }
}

/// What the governor limits, and what was reduced because memory is short.
fn limit_reason(board: &BoardStatus, pool: &PoolStatus) -> String {
    let memory = match board.verdict.memory {
        MemoryState::Normal => "",
        short => short.meaning(),
    };
    let reason = board.verdict.reason.as_str();
    let parts = [reason, memory].into_iter().map(str::to_owned);
    let notes = pool.resident.iter().map(|model| match model.note.as_str() {
        "" => String::new(),
        note if pool.resident.len() == 1 => note.to_owned(),
        note => format!("{}: {note}", model.name),
    });
    let parts: Vec<String> = parts.chain(notes).filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}
