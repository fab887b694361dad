//! Samples of the service, and what `top` remembers of them.

use std::collections::VecDeque;

use serde_json::Value;

/// Number of samples in a curve.
const HISTORY_MAX: usize = 300;
/// Sampling interval in seconds.
pub const INTERVAL_S: f64 = 1.0;
/// The speed is averaged over this many samples: a single one would vary by a token.
const SPEED_SAMPLES: usize = 5;

/// One sample of the service: its properties and the board.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Properties of the main object.
    pub status: Value,
    /// Result of `GetBoard`.
    pub board: Value,
    /// Time of the sample, in seconds.
    pub at_s: f64,
}

impl Sample {
    /// A text of either; empty if missing.
    pub fn text(&self, key: &str) -> &str {
        let own = self.status[key].as_str();
        own.or_else(|| self.board[key].as_str()).unwrap_or_default()
    }

    /// A number of the properties; 0 if missing.
    pub fn number(&self, key: &str) -> u64 {
        self.status[key].as_u64().unwrap_or_default()
    }

    /// A floating-point number of the board.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.board[key].as_f64()
    }
}

/// The samples so far, the latest first.
#[derive(Debug, Default)]
pub struct History {
    pub temperatures: VecDeque<f64>,
    /// Tokens per second of all answers together, over the last [`SPEED_SAMPLES`].
    pub speeds: VecDeque<f64>,
    /// Time and total of generated tokens.
    counts: VecDeque<(f64, u64)>,
}

impl History {
    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample) {
        if let Some(temperature) = sample.float("temperature_celsius") {
            push(&mut self.temperatures, temperature);
        }
        if let Some(tokens) = sample.board["tokens_generated"].as_u64() {
            // The counter of a restarted service starts at 0 again.
            if self
                .counts
                .front()
                .is_some_and(|(_, before)| *before > tokens)
            {
                self.counts.clear();
            }
            self.counts.push_front((sample.at_s, tokens));
            self.counts.truncate(SPEED_SAMPLES + 1);
            let speed = self.speed();
            push(&mut self.speeds, speed);
        }
    }

    /// Tokens per second between the first and the last of the counts.
    fn speed(&self) -> f64 {
        let (Some((now, last)), Some((since, first))) = (self.counts.front(), self.counts.back())
        else {
            return 0.0;
        };
        // A query takes time, so samples are more than a second apart.
        let passed = now - since;
        #[expect(clippy::cast_precision_loss, reason = "tokens of some seconds")]
        let tokens = last.saturating_sub(*first) as f64;
        if passed > 0.0 { tokens / passed } else { 0.0 }
    }
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    values.truncate(HISTORY_MAX - 1);
    values.push_front(value);
}
