//! The state of the board and the governor's decisions, for people and for tools that plot
//! it.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use super::Service;
use super::tune::Tuned;
use crate::governor::{Cause, Reading};
use crate::units::{Bytes, MilliCelsius, Permille};

/// Decisions stored.
const REMEMBERED: usize = 32;

/// One snapshot of the board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// Hottest CPU zone, where the board has one.
    pub temperature: Option<MilliCelsius>,
    /// The temperature that it is not to exceed; `None` without a temperature sensor.
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
    /// What keeps the board below full speed.
    pub cause: Option<Cause>,
    /// Problems that the firmware reports, in words.
    pub firmware: Vec<&'static str>,
    /// `MemTotal`.
    pub memory_total: Option<Bytes>,
    /// `MemAvailable`.
    pub memory_available: Option<Bytes>,
    /// `normal`, `moderate`, `critical`, `emergency`.
    pub memory_state: &'static str,
    /// Resident memory of the engine.
    pub engine: Option<Bytes>,
    /// Tokens generated since the service started, those of running answers included.
    pub tokens_generated: u64,
    /// Progress of the running measurement.
    pub tuned: Option<Tuned>,
    /// Which files the readings come from, a line for each kind.
    pub sources: Vec<String>,
    /// Decisions with their age, the latest first.
    pub decisions: Vec<(Duration, String)>,
}

/// Decisions, by the service's own clock.
#[derive(Debug, Default)]
pub(super) struct Decisions(VecDeque<(Duration, String)>);

impl Decisions {
    /// Adds a decision.
    pub(super) fn add(&mut self, now: Duration, text: &str) {
        self.0.truncate(REMEMBERED - 1);
        self.0.push_front((now, text.to_owned()));
    }

    /// Decisions with their ages, the latest first.
    pub(super) fn ages(&self, now: Duration) -> Vec<(Duration, String)> {
        let age = |(at, text): &(Duration, String)| (now.saturating_sub(*at), text.clone());
        self.0.iter().map(age).collect()
    }
}

impl Service {
    /// Takes a snapshot of the board.
    pub fn board(&self) -> Board {
        let reading = self.look_at_board();
        let inner = self.lock();
        let pid = inner.engine.as_ref().and_then(|engine| engine.pid);
        Board {
            engine: pid.and_then(resident),
            sources: self
                .shared
                .sensors
                .sources()
                .to_string()
                .lines()
                .map(str::to_owned)
                .collect(),
            ..inner.board(self.now(), &reading)
        }
    }
}

/// Problems that the firmware reports.
pub(super) fn complaints(reading: &Reading) -> Vec<&'static str> {
    let said = reading.firmware.unwrap_or_default();
    [
        (said.under_voltage, "under-voltage"),
        (said.capped, "frequency capped"),
        (said.throttled, "throttled"),
        (said.soft_limit, "soft temperature limit"),
    ]
    .into_iter()
    .filter_map(|(is_so, what)| is_so.then_some(what))
    .collect()
}

/// `VmRSS` of a process (proc(5)).
fn resident(pid: u32) -> Option<Bytes> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_decisions_are_remembered() {
        let mut decisions = Decisions::default();
        for s in 0..100 {
            decisions.add(Duration::from_secs(s), &format!("decision {s}"));
        }
        let ages = decisions.ages(Duration::from_secs(100));
        assert_eq!(ages.len(), REMEMBERED);
        assert_eq!(ages[0], (Duration::from_secs(1), "decision 99".into()));
    }

    #[test]
    fn a_process_has_a_size() {
        assert!(resident(std::process::id()).unwrap() > Bytes::mib(1));
        assert_eq!(resident(u32::MAX), None);
    }
}
