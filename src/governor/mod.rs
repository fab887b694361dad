//! Floor 1: how hot and how full the board is, and what that allows.
//!
//! Pure: [`Governor::observe`] takes the time and a [`Reading`] and returns the
//! limits; it opens nothing and reads no clock.

mod pressure;
mod reading;
mod thermal;

use std::time::Duration;

pub use pressure::MemoryState;
pub use reading::{Cores, Firmware, Memory, Psi, Reading};
pub use thermal::ThermalState;

use crate::protocol::Limits;
use crate::units::Permille;

/// Time since an arbitrary start, as the control task counts it.
pub type Now = Duration;

/// What the governor concluded, for the bus and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the engine.
    pub limits: Limits,
    /// How hot.
    pub thermal: ThermalState,
    /// How full.
    pub memory: MemoryState,
    /// Whether new requests are refused for want of memory.
    pub refuses: bool,
    /// Why the limits are below full; empty when they are not.
    pub reason: String,
}

/// Turns readings into limits.
#[derive(Clone, Debug)]
pub struct Governor {
    threads_max: u32,
    thermal: thermal::Thermal,
    pressure: pressure::Pressure,
}

impl Governor {
    /// A governor for a pool of `threads_max` threads.
    pub fn new(threads_max: u32) -> Self {
        Self {
            threads_max: threads_max.max(1),
            thermal: thermal::Thermal::default(),
            pressure: pressure::Pressure::default(),
        }
    }

    /// The system says that memory is short.
    pub fn warn_of_memory(&mut self, now: Now) {
        self.pressure.warn(now);
    }

    /// Takes one reading at time `now` (never going back) and says what holds.
    pub fn observe(&mut self, now: Now, reading: &Reading) -> Verdict {
        let thermal = self.thermal.observe(now, reading);
        let memory = self.pressure.observe(now, &reading.memory);
        let full = self.threads_max;
        let (threads, paused) = match thermal {
            ThermalState::Cool | ThermalState::Warm | ThermalState::Hot => (full, false),
            ThermalState::Limit => (full.div_ceil(2), false),
            ThermalState::Emergency => (1, true),
        };
        let at = reading
            .temperature
            .map_or_else(String::new, |t| format!(" ({t})"));
        let reason = match thermal {
            ThermalState::Limit if threads < full => {
                format!("hot{at}: {threads} of {full} threads")
            }
            ThermalState::Emergency => format!("too hot{at}: paused until it cools"),
            _ => String::new(),
        };
        Verdict {
            limits: Limits {
                threads,
                duty: Permille::FULL,
                paused,
                // One that runs needs no more memory than it has; others would.
                slots: u32::from(memory >= MemoryState::Critical),
                cpus: reading.cores.big,
                ..Limits::default()
            },
            thermal,
            memory,
            refuses: self.pressure.refuses(now),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCelsius;

    fn at(celsius: i32) -> Reading {
        Reading {
            temperature: Some(MilliCelsius(celsius * 1000)),
            passive_trip: Some(MilliCelsius(80_000)),
            ..Reading::default()
        }
    }

    #[test]
    fn a_cool_board_has_all_threads() {
        let verdict = Governor::new(4).observe(Duration::ZERO, &at(40));
        assert_eq!(verdict.limits.threads, 4);
        assert!(!verdict.limits.paused);
        assert_eq!(verdict.reason, "");
    }

    #[test]
    fn at_the_limit_threads_halve_and_the_reason_says_so() {
        let mut governor = Governor::new(4);
        let mut verdict = governor.observe(Duration::ZERO, &at(79));
        for s in 1..10 {
            verdict = governor.observe(Duration::from_secs(s), &at(79));
        }
        assert_eq!(verdict.thermal, ThermalState::Limit);
        assert_eq!(verdict.limits.threads, 2);
        assert_eq!(verdict.reason, "hot (79.0 °C): 2 of 4 threads");
    }

    #[test]
    fn in_an_emergency_it_pauses_and_resumes_when_cool() {
        let mut governor = Governor::new(4);
        for s in 0..10 {
            governor.observe(Duration::from_secs(s), &at(90));
        }
        assert!(
            governor
                .observe(Duration::from_secs(10), &at(90))
                .limits
                .paused
        );
        let mut verdict = governor.observe(Duration::from_secs(11), &at(50));
        for s in 12..120 {
            verdict = governor.observe(Duration::from_secs(s), &at(50));
        }
        assert!(!verdict.limits.paused);
        assert_eq!(verdict.thermal, ThermalState::Cool);
    }

    #[test]
    fn a_board_without_sensors_is_not_limited() {
        let verdict = Governor::new(2).observe(Duration::ZERO, &Reading::default());
        assert_eq!(verdict.limits.threads, 2);
        assert_eq!(verdict.memory, MemoryState::Normal);
    }
}
