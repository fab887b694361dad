//! Tokens that each user has consumed within the last hour. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Usage is recorded by the minute, and counts for an hour from that minute's end.
const MINUTE: u64 = 60;
const HOUR: u64 = 60;

/// Tokens by user and minute.
#[derive(Clone, Debug, Default)]
pub struct Quotas(BTreeMap<u32, VecDeque<(u64, u64)>>);

impl Quotas {
    /// Records tokens computed for a user.
    pub fn charge(&mut self, now: Duration, uid: u32, tokens: u32) {
        if tokens == 0 {
            return;
        }
        self.forget(now);
        let minutes = self.0.entry(uid).or_default();
        let minute = now.as_secs() / MINUTE;
        match minutes.back_mut() {
            Some((last, sum)) if *last == minute => *sum += u64::from(tokens),
            _ => minutes.push_back((minute, u64::from(tokens))),
        }
    }

    /// Tokens of a user within the last hour.
    pub fn used(&mut self, now: Duration, uid: u32) -> u64 {
        self.forget(now);
        let minutes = self.0.get(&uid).into_iter().flatten();
        minutes.map(|(_, tokens)| tokens).sum()
    }

    /// Seconds until a user's tokens within the last hour are fewer than `limit`; `None` if
    /// they are now.
    pub fn refused_s(&mut self, now: Duration, uid: u32, limit: u32) -> Option<u32> {
        let mut left = self.used(now, uid);
        for (minute, tokens) in self.0.get(&uid).into_iter().flatten() {
            if left < u64::from(limit) {
                break;
            }
            left -= tokens;
            if left < u64::from(limit) {
                let again = (minute + HOUR + 1) * MINUTE;
                let seconds = again.saturating_sub(now.as_secs()).max(1);
                return Some(u32::try_from(seconds).unwrap_or(u32::MAX));
            }
        }
        None
    }

    fn forget(&mut self, now: Duration) {
        let minute = now.as_secs() / MINUTE;
        self.0.retain(|_, minutes| {
            while minutes.front().is_some_and(|(m, _)| m + HOUR < minute) {
                minutes.pop_front();
            }
            !minutes.is_empty()
        });
    }
}

/// Tokens charged for one request, over all engines that processed it: tokens that are
/// computed again after a crash are charged once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charged {
    /// Tokens of the prompt that were in the cache or computed.
    prompt: u32,
    generated: u32,
    total: u32,
}

impl Charged {
    /// Records that this many tokens of the prompt were in the cache; these are free.
    pub fn cached(&mut self, tokens: u32) -> u32 {
        self.prompt = self.prompt.max(tokens);
        0
    }

    /// Records that the prompt is computed up to `done`; returns how many tokens are new.
    pub fn prompt(&mut self, done: u32) -> u32 {
        let new = done.saturating_sub(self.prompt);
        self.prompt += new;
        self.total = self.total.saturating_add(new);
        new
    }

    /// Records that this many tokens were generated; returns how many are new.
    pub fn generated(&mut self, generated: u32) -> u32 {
        let new = generated.saturating_sub(self.generated);
        self.generated += new;
        self.total = self.total.saturating_add(new);
        new
    }

    /// All tokens charged.
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn usage_counts_for_an_hour() {
        let mut quotas = Quotas::default();
        quotas.charge(s(30), 1000, 60);
        quotas.charge(s(40), 1000, 20);
        quotas.charge(s(600), 1000, 50);
        quotas.charge(s(600), 1001, 7);
        assert_eq!(
            (quotas.used(s(600), 1000), quotas.used(s(600), 1001)),
            (130, 7)
        );
        for (now, limit, refused) in [
            (600, 131, None),
            // When the first minute is more than an hour ago.
            (600, 130, Some(3660 - 600)),
            (600, 51, Some(3660 - 600)),
            // When the tenth is, too.
            (600, 50, Some(4260 - 600)),
            (3659, 100, Some(1)),
            (3660, 100, None),
        ] {
            let said = quotas.refused_s(s(now), 1000, limit);
            assert_eq!(said, refused, "{limit} at {now}");
        }
        assert_eq!(quotas.used(s(3660), 1000), 50);
        assert_eq!(quotas.used(s(100_000), 1000), 0);
        // Users without recent usage are removed.
        assert!(quotas.0.is_empty());
    }

    #[test]
    fn a_crash_is_not_charged() {
        let mut charged = Charged::default();
        charged.cached(10);
        assert_eq!(charged.prompt(64), 54);
        assert_eq!(charged.prompt(100), 36);
        assert_eq!((charged.generated(1), charged.generated(4)), (1, 3));
        // Another engine starts again and continues.
        charged.cached(0);
        assert_eq!((charged.prompt(64), charged.prompt(103)), (0, 3));
        assert_eq!(charged.generated(5), 1);
        assert_eq!(charged.total(), 54 + 36 + 4 + 3 + 1);
    }

    proptest! {
        /// A caller that waits as long as returned is accepted, and not one second earlier.
        #[test]
        fn the_retry_time_is_exact(
            uses in prop::collection::vec((0_u64..4000, 1_u32..100), 1..40),
            limit in 1_u32..500,
        ) {
            let mut quotas = Quotas::default();
            let mut now = 0;
            for (pause, tokens) in uses {
                now += pause / 20;
                quotas.charge(s(now), 1, tokens);
            }
            if let Some(wait) = quotas.refused_s(s(now), 1, limit) {
                let then = now + u64::from(wait);
                prop_assert!(quotas.clone().refused_s(s(then - 1), 1, limit).is_some());
                prop_assert_eq!(quotas.refused_s(s(then), 1, limit), None);
            } else {
                prop_assert!(quotas.used(s(now), 1) < u64::from(limit));
            }
        }
    }
}
