//! A snapshot of the board, for users and for programs that plot it.

use std::time::Duration;

use hearth_policy::governor::Cause;
use hearth_proto::reading::Reading;
use hearth_proto::units::{Bytes, MilliCelsius, Permille};

use super::Daemon;
use crate::tuning::TuningProgress;

/// One snapshot of the board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoardSnapshot {
    /// Hottest CPU zone, where the board has one.
    pub temperature: Option<MilliCelsius>,
    /// The temperature limit; `None` without a temperature sensor.
    pub temperature_limit: Option<MilliCelsius>,
    /// `cool`, `warm`, `hot`, `limit`, `emergency`.
    pub thermal_state: &'static str,
    /// Threads that compute now.
    pub threads: u32,
    /// Threads that may compute at most.
    pub threads_max: u32,
    /// Share of the time in which they compute; 0 while paused.
    pub duty: Permille,
    /// The highest frequency allowed, relative to the highest possible.
    pub frequency_cap: Option<Permille>,
    /// Why the engine runs below full speed.
    pub cause: Option<Cause>,
    /// Names of the problems that the firmware reports.
    pub firmware: Vec<&'static str>,
    /// `MemTotal`.
    pub memory_total: Option<Bytes>,
    /// `MemAvailable`.
    pub memory_available: Option<Bytes>,
    /// `normal`, `moderate`, `critical`, `emergency`.
    pub memory_state: &'static str,
    /// Resident memory of the engines together.
    pub engines: Option<Bytes>,
    /// Tokens generated since the daemon started, those of running answers included.
    pub tokens_generated: u64,
    /// Progress of the running measurement.
    pub tuning: Option<TuningProgress>,
    /// Decisions with their age, the latest first.
    pub decisions: Vec<(Duration, String)>,
}

impl Daemon {
    /// Reads the board and takes a snapshot of it.
    pub async fn board_snapshot(&self) -> BoardSnapshot {
        let board = self.board.read().await;
        let pids = self.pool.status().pids();
        let resident = tokio::task::spawn_blocking(move || engines_memory(&pids));
        let (limits, verdict) = (board.limits, board.verdict);
        BoardSnapshot {
            temperature: board.reading.temperature,
            temperature_limit: verdict.temperature_limit,
            thermal_state: verdict.thermal.as_str(),
            threads: limits.threads,
            threads_max: board.threads_max,
            duty: if limits.paused {
                Permille::default()
            } else {
                limits.duty
            },
            frequency_cap: board.reading.frequency_cap,
            cause: verdict.cause,
            firmware: firmware_problems(&board.reading),
            memory_total: board.reading.memory.total,
            memory_available: board.reading.memory.available,
            memory_state: verdict.memory.as_str(),
            engines: resident.await.ok().flatten(),
            tokens_generated: self.dispatcher.tokens_generated(),
            tuning: self.tuner.progress(),
            decisions: self.board.decisions(),
        }
    }
}

/// Resident memory of the engines together; `None` without one.
fn engines_memory(pids: &[u32]) -> Option<Bytes> {
    let resident = pids
        .iter()
        .copied()
        .filter_map(hearth_sensors::process::resident);
    resident
        .map(|bytes| bytes.0)
        .reduce(|a, b| a + b)
        .map(Bytes)
}

/// Problems that the firmware reports.
fn firmware_problems(reading: &Reading) -> Vec<&'static str> {
    let flags = reading.firmware.unwrap_or_default();
    [
        (flags.under_voltage, "under-voltage"),
        (flags.capped, "frequency capped"),
        (flags.throttled, "throttled"),
        (flags.soft_limit, "soft temperature limit"),
    ]
    .into_iter()
    .filter_map(|(is_set, problem)| is_set.then_some(problem))
    .collect()
}
