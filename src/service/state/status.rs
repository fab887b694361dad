//! The governor's view of the board, and the service's status.

use std::time::Duration;

use super::Inner;
use crate::config::{GovernorConfig, PolicyName};
use crate::governor::{GovernorSettings, MemoryState, Policy, Reading, SpeedTable};
use crate::protocol::Limits;
use crate::service::board::{Board, complaints};
use crate::service::types::{State, Status};
use crate::units::{MilliCelsius, Permille};

/// The decision logged when nothing limits the work any more.
const FULL_SPEED: &str = "nothing limits the board any more: full speed";

impl Inner {
    /// Processes a reading; returns the new limits if they changed.
    pub(in crate::service) fn observe(
        &mut self,
        now: Duration,
        reading: &Reading,
    ) -> Option<Limits> {
        let mut verdict = self.governor.observe(now, reading);
        verdict.limits = self.under_measurement(verdict.limits);
        self.temperature_celsius = reading.temperature.map_or(0.0, MilliCelsius::celsius);
        let changed = verdict.limits != self.verdict.limits;
        if verdict.reason != self.verdict.reason {
            if verdict.reason.is_empty() {
                log::info!("{FULL_SPEED}");
                self.decisions.add(now, FULL_SPEED);
            } else {
                log::warn!("{}", verdict.reason);
                self.decisions.add(now, &verdict.reason);
            }
        }
        if verdict.memory != self.verdict.memory {
            let (state, meaning) = (verdict.memory.as_str(), verdict.memory.meaning());
            log::warn!("memory: {state}: {meaning}");
            self.decisions.add(now, &format!("memory: {meaning}"));
        }
        let before = std::mem::replace(&mut self.verdict, verdict).memory;
        self.give_up_memory(before);
        changed.then_some(self.verdict.limits)
    }

    /// The board as it was read, with the decisions.
    pub(in crate::service) fn board(&self, now: Duration, reading: &Reading) -> Board {
        let limits = self.verdict.limits;
        Board {
            temperature: reading.temperature,
            temperature_limit: self.verdict.temperature_limit,
            thermal_state: self.verdict.thermal.as_str(),
            threads: limits.threads,
            threads_max: self.threads_max,
            duty: if limits.paused {
                Permille::default()
            } else {
                limits.duty
            },
            frequency_cap: reading.frequency_cap,
            cause: self.verdict.cause,
            firmware: complaints(reading),
            memory_total: reading.memory.total,
            memory_available: reading.memory.available,
            memory_state: self.verdict.memory.as_str(),
            engine: None,
            sources: Vec::new(),
            tokens_generated: self.tokens_generated,
            tuned: self.tuned.clone(),
            decisions: self.decisions.ages(now),
        }
    }

    /// What the governor limits, and what was reduced for lack of memory.
    fn limit_reason(&self) -> String {
        let note = self.engine.as_ref().map_or("", |e| e.note.as_str());
        let memory = match self.verdict.memory {
            MemoryState::Normal => "",
            short => short.meaning(),
        };
        let parts = [self.verdict.reason.as_str(), memory, note];
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        parts.join("; ")
    }

    /// Sets new settings for the board; they apply from the next reading on.
    pub(in crate::service) fn set_governor(&mut self, settings: GovernorSettings) {
        self.governor.set_settings(settings);
    }

    pub(in crate::service) fn status(&self) -> Status {
        let info = self.engine.as_ref().and_then(|e| e.info.as_ref());
        let ready = info.is_some();
        let state = match (&self.engine, ready) {
            (None, _) if self.failed.is_some() => State::Failed,
            (None, _) if self.wanted.is_some() => State::Loading,
            (None, _) => State::Unloaded,
            (Some(_), false) => State::Loading,
            (Some(_), true) if !self.verdict.reason.is_empty() => State::Limited,
            (Some(_), true) if self.running.is_empty() => State::Ready,
            (Some(_), true) => State::Busy,
        };
        let failed = self.failed.as_ref().map(ToString::to_string);
        Status {
            state,
            model: self
                .loaded_model()
                .or(self.wanted())
                .unwrap_or_default()
                .to_owned(),
            context_size: info.map_or(0, |i| i.context_size),
            active_threads: if ready {
                self.verdict.limits.threads
            } else {
                0
            },
            max_threads: self.threads_max,
            thermal_state: self.verdict.thermal.as_str(),
            temperature_celsius: self.temperature_celsius,
            memory_state: self.verdict.memory.as_str(),
            limit_reason: failed.unwrap_or_else(|| self.limit_reason()),
            queue_length: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            active_jobs: u32::try_from(self.running.len()).unwrap_or(u32::MAX),
            tokens_per_second: self.tokens_per_second,
            cpu: self.cpu.clone(),
            engine_pid: self.engine.as_ref().and_then(|e| e.pid),
            engine_crashes: self.crashes,
            draining: self.draining,
        }
    }
}

/// The configured governor for a pool with this many threads.
pub(in crate::service) fn governor_settings(
    config: &GovernorConfig,
    threads_max: u32,
) -> GovernorSettings {
    let celsius = i32::try_from(config.temperature_limit_celsius).unwrap_or(0);
    GovernorSettings {
        policy: match config.policy {
            PolicyName::Throughput => Policy::Throughput,
            PolicyName::Balanced => Policy::Balanced,
            PolicyName::Quiet => Policy::Quiet {
                power_percent: config.power_percent,
            },
        },
        threads_max,
        temperature_limit: (celsius > 0).then_some(MilliCelsius(celsius.saturating_mul(1000))),
        table: SpeedTable::default(),
        threads_useful: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_reaches_the_governor() {
        let config = GovernorConfig {
            policy: PolicyName::Quiet,
            power_percent: 40,
            temperature_limit_celsius: 70,
        };
        let settings = governor_settings(&config, 3);
        assert_eq!(settings.policy, Policy::Quiet { power_percent: 40 });
        assert_eq!(settings.temperature_limit, Some(MilliCelsius(70_000)));
        assert_eq!(settings.threads_max, 3);
        let automatic = governor_settings(&GovernorConfig::default(), 3);
        assert_eq!(automatic.policy, Policy::Balanced);
        assert_eq!(automatic.temperature_limit, None);
    }
}
