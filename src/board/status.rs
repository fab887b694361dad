//! What the monitor publishes.

use std::time::Duration;

use hearth_policy::governor::{MemoryState, ThermalState, Verdict};
use hearth_proto::reading::Reading;
use hearth_proto::units::MilliCelsius;
use hearth_proto::{Failure, FailureKind, Limits};

/// A refused caller may try again after this long: the memory state improves by at most one
/// step per minute.
const RETRY_S: u32 = 60;

/// The last reading of the board, and the governor's decision on it.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardStatus {
    /// The last reading of the sensors.
    pub reading: Reading,
    /// The governor's decision on it.
    pub verdict: Verdict,
    /// The limits for the engines: the decision's, or fewer threads during a measurement.
    pub limits: Limits,
    /// Threads of an engine's pool.
    pub threads_max: u32,
}

impl BoardStatus {
    /// Hottest CPU zone in degrees, where the board has one.
    pub fn temperature_celsius(&self) -> Option<f64> {
        self.reading.temperature.map(MilliCelsius::celsius)
    }

    /// Whether the board has to be read although no engine runs: limits apply that later
    /// readings may lift.
    pub(super) fn is_strained(&self) -> bool {
        self.verdict.memory != MemoryState::Normal || self.verdict.thermal != ThermalState::Cool
    }

    /// Why new requests are refused, if the board is the reason.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        if self.verdict.refuses {
            return Some(memory_short());
        }
        let retry = self.verdict.retry_after?.as_secs();
        let message = "the board is too hot: improve its cooling, or wait until it has cooled down";
        let failure = Failure::new(FailureKind::Overheated, message);
        Some(failure.retry_after(u32::try_from(retry).unwrap_or(RETRY_S)))
    }

    /// Why a measurement would not be valid in this state of the board.
    pub(crate) fn measurement_problem(&self) -> Option<(FailureKind, String)> {
        let verdict = &self.verdict;
        if verdict.memory != MemoryState::Normal {
            let message = verdict.memory.meaning().to_owned();
            return Some((FailureKind::OutOfMemory, message));
        }
        let is_warm = verdict.thermal > ThermalState::Cool;
        if !is_warm && verdict.cause.is_none() {
            return None;
        }
        let why = match verdict.temperature_limit.zip(self.temperature_celsius()) {
            Some((limit, celsius)) if is_warm => format!(
                "the board is {} ({celsius:.1} °C): measuring starts 15 K below its limit of {limit}",
                verdict.thermal.as_str(),
            ),
            _ => verdict.reason.clone(),
        };
        Some((FailureKind::Overheated, why))
    }

    /// Interval between readings while an engine works.
    pub(super) fn interval_busy(&self) -> Duration {
        self.verdict.look_again
    }
}

/// The failure of requests that are ended because memory is short.
pub(crate) fn memory_short() -> Failure {
    Failure::new(
        FailureKind::OutOfMemory,
        "the board is short of memory: stop other programs, or use a smaller model",
    )
    .retry_after(RETRY_S)
}
