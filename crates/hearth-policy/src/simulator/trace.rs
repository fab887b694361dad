//! Results of a simulation.

use std::time::Duration;

use hearth_proto::units::{MilliCelsius, Permille};

use crate::governor::ThermalState;

/// The state in one second.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its end, measured from the start.
    pub at: Duration,
    /// The silicon's true temperature in °C.
    pub celsius: f64,
    /// Threads; 0 while paused.
    pub threads: u32,
    /// Share of the time spent computing.
    pub duty: Permille,
    /// Share of the computing power that is allowed.
    pub share: Permille,
    /// Clock of the cores in MHz.
    pub clock_mhz: f64,
    /// Decode speed in that second.
    pub tokens_per_s: f64,
    /// The governor's thermal state.
    pub state: ThermalState,
    /// Why it was limited.
    pub reason: String,
}

/// A complete run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// One row per second.
    pub rows: Vec<Row>,
    /// The temperature limit.
    pub limit: MilliCelsius,
    /// Threads of the board.
    pub threads_max: u32,
    /// Decode speed with all threads at full clock.
    pub full_tokens_per_s: f64,
    /// Full clock in MHz.
    pub full_mhz: f64,
}

/// Summary of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Tokens as a share of those of the same board without thermal limits.
    pub share: f64,
    /// Tokens.
    pub tokens: f64,
    /// Highest temperature after the first minute, in °C.
    pub celsius_max: f64,
    /// Mean temperature in the second half, in °C.
    pub celsius_settled: f64,
    /// Changes of the thread count.
    pub thread_changes: u32,
    /// Changes of the reason: lines in the journal.
    pub reasons: u32,
    /// Share of the time in which firmware or kernel throttled the cores.
    pub slowed: f64,
}

impl Trace {
    /// The rows from some time on.
    pub fn after(&self, from: Duration) -> &[Row] {
        let first = self.rows.partition_point(|row| row.at <= from);
        self.rows.get(first..).unwrap_or_default()
    }

    /// Computes the summary.
    pub fn summary(&self) -> Summary {
        let tokens: f64 = self.rows.iter().map(|row| row.tokens_per_s).sum();
        let seconds = count(self.rows.len());
        let is_slow = |row: &&Row| row.clock_mhz < self.full_mhz;
        let slowed = self.rows.iter().filter(is_slow).count();
        let half = self.rows.get(self.rows.len() / 2..).unwrap_or_default();
        let late = self.after(Duration::from_mins(1));
        Summary {
            share: tokens / (seconds * self.full_tokens_per_s).max(f64::MIN_POSITIVE),
            tokens,
            celsius_max: late.iter().map(|row| row.celsius).fold(f64::MIN, f64::max),
            celsius_settled: mean(half.iter().map(|row| row.celsius), count(half.len())),
            thread_changes: changes(&self.rows, |a, b| a.threads != b.threads),
            reasons: changes(&self.rows, |a, b| a.reason != b.reason),
            slowed: count(slowed) / seconds.max(1.0),
        }
    }
}

/// How often adjacent rows differ.
pub(super) fn changes(rows: &[Row], differ: impl Fn(&Row, &Row) -> bool) -> u32 {
    let changes = rows
        .windows(2)
        .filter(|w| matches!(w, [a, b] if differ(a, b)));
    u32::try_from(changes.count()).unwrap_or(u32::MAX)
}

fn mean(values: impl Iterator<Item = f64>, by: f64) -> f64 {
    values.sum::<f64>() / by.max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn count(n: usize) -> f64 {
    n as f64
}
