//! The governor's latest decisions, as shown to users.

use std::collections::VecDeque;
use std::time::Duration;

/// Decisions stored.
const STORED: usize = 32;

/// Decisions with the time at which each was made.
#[derive(Debug, Default)]
pub(super) struct Decisions(VecDeque<(Duration, String)>);

impl Decisions {
    /// Adds a decision.
    pub(super) fn add(&mut self, now: Duration, text: &str) {
        self.0.truncate(STORED - 1);
        self.0.push_front((now, text.to_owned()));
    }

    /// Decisions with their ages, the latest first.
    pub(super) fn ages(&self, now: Duration) -> Vec<(Duration, String)> {
        let age = |(at, text): &(Duration, String)| (now.saturating_sub(*at), text.clone());
        self.0.iter().map(age).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_decisions_are_stored() {
        let mut decisions = Decisions::default();
        for s in 0..100 {
            decisions.add(Duration::from_secs(s), &format!("decision {s}"));
        }
        let ages = decisions.ages(Duration::from_secs(100));
        assert_eq!(ages.len(), STORED);
        assert_eq!(ages[0], (Duration::from_secs(1), "decision 99".into()));
    }
}
