//! The parts of the state that measuring the board needs.

use super::Inner;
use crate::governor::{MemoryState, SpeedTable, ThermalState};
use crate::protocol::{FailureKind, Limits, RequestId};

impl Inner {
    /// The last id assigned: the next request has the following one.
    pub(in crate::service) fn last_id(&self) -> RequestId {
        RequestId(self.last_id)
    }

    /// Why a measurement would not be valid now.
    pub(in crate::service) fn restless(&self) -> Option<(FailureKind, String)> {
        if self.is_busy() || !self.queue.is_empty() {
            return Some((FailureKind::Busy, "other requests are worked on".to_owned()));
        }
        if self.verdict.memory != MemoryState::Normal {
            let message = self.verdict.memory.meaning().to_owned();
            return Some((FailureKind::OutOfMemory, message));
        }
        let is_warm = self.verdict.thermal > ThermalState::Cool;
        if !is_warm && self.verdict.cause.is_none() {
            return None;
        }
        let why = match self.verdict.temperature_limit {
            Some(limit) if is_warm => format!(
                "the board is {}: {:.1} °C, and cool 15 K below its limit of {limit}",
                self.verdict.thermal.as_str(),
                self.temperature_celsius,
            ),
            _ => self.verdict.reason.clone(),
        };
        Some((FailureKind::Overheated, why))
    }

    /// The limits, with the thread count of a running measurement.
    pub(super) fn under_measurement(&self, limits: Limits) -> Limits {
        match self.tuned.as_ref().and_then(|tuned| tuned.threads) {
            Some(threads) => Limits {
                threads: threads.min(limits.threads),
                decode_threads: 0,
                ..limits
            },
            None => limits,
        }
    }

    /// The decode speeds that the governor uses, and the most threads that are useful.
    pub(in crate::service) fn table(&self) -> (SpeedTable, Option<u32>) {
        let settings = self.governor.settings();
        (settings.table.clone(), settings.threads_useful)
    }

    /// Sets the decode speeds and the most useful threads of the governor.
    pub(in crate::service) fn set_table(&mut self, table: SpeedTable, most: Option<u32>) {
        self.governor.set_table(table, most);
    }
}
