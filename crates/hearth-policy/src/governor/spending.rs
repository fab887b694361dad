//! How a share of the compute power is spent: threads first, then duty.
//!
//! Every running thread costs about the same power, but the last ones gain little where
//! memory is the bottleneck: below a crossing point of the share, fewer threads without
//! pauses are faster than all of them with pauses; above it, the other way round.

use std::time::Duration;

use super::Now;
use super::control::SHARE_MIN;

/// Hysteresis of the share for a change of the thread count.
const HYSTERESIS: f64 = 0.03;
/// Minimum time between two changes of the thread count.
const DWELL: Duration = Duration::from_secs(15);
/// Time for which the board must have been cool enough for one more thread.
const HEADROOM_FOR: Duration = Duration::from_mins(1);
/// Required headroom below the set point, in kelvin per additional thread's power that is
/// needed to gain anything: the response of the best-cooled boards.
const KELVIN_PER_THREAD: f64 = 2.0;
/// One more thread is tried for at most this long.
const TRIAL: Duration = Duration::from_mins(5);
/// A trial ends when the temperature is this close to the set point, in kelvin.
const SETTLED_K: f64 = 0.3;
/// After a trial without a gain the next one waits until the board is cooler than at the
/// last one by this many kelvin: only then can its outcome differ.
const COOLER_K: f64 = 1.0;
/// Minimum and maximum wait after such a trial.
const WAIT_MIN: Duration = Duration::from_mins(10);
const WAIT_MAX: Duration = Duration::from_hours(4);

/// Relative decode speed by thread count, measured or assumed.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedTable(Vec<f64>);

impl Default for SpeedTable {
    /// Decode speed bound by memory, as on four-core boards.
    fn default() -> Self {
        Self(vec![0.45, 0.80, 0.95, 1.0])
    }
}

impl SpeedTable {
    /// From the speeds of 1, 2, … threads in any unit; more threads count as fast as the last.
    /// `None` if one is not a positive number, or the list is empty.
    pub fn measured(speeds: &[f64]) -> Option<Self> {
        let most = speeds.iter().copied().fold(0.0, f64::max);
        let sound = |s: &f64| s.is_finite() && *s > 0.0;
        let scaled = speeds.iter().map(|s| s / most).collect();
        (!speeds.is_empty() && speeds.iter().all(sound)).then_some(Self(scaled))
    }

    /// Speed with this many threads; the fastest count has 1.
    pub fn speed(&self, threads: u32) -> f64 {
        let at = threads.saturating_sub(1) as usize;
        let last = self.0.last().copied().unwrap_or(1.0);
        self.0.get(at).copied().unwrap_or(last)
    }

    /// The fastest thread count up to `most`; of equally fast ones the smallest.
    pub fn fastest(&self, most: u32) -> u32 {
        self.best(most, f64::from(most))
    }

    /// Speed with this many threads at the power of `budget` threads.
    fn speed_within(&self, threads: u32, budget: f64) -> f64 {
        self.speed(threads) * (budget / f64::from(threads)).min(1.0)
    }

    /// The fastest thread count up to `most` at that power; of equally fast ones the smallest.
    fn best(&self, most: u32, budget: f64) -> u32 {
        (2..=most).fold(1, |best, threads| {
            if self.speed_within(threads, budget) > self.speed_within(best, budget) {
                threads
            } else {
                best
            }
        })
    }

    /// The next larger thread count that can be faster, and the power, in threads, from which
    /// on it is.
    fn next_faster(&self, threads: u32, most: u32) -> Option<(u32, f64)> {
        let speed = self.speed(threads);
        let next = (threads + 1..=most).find(|n| self.speed(*n) > speed)?;
        Some((next, speed / self.speed(next) * f64::from(next)))
    }
}

/// The power to spend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Share of the compute power of all threads.
    pub(super) share: f64,
    /// Upper bound of the share.
    pub(super) cap: f64,
    /// How far below the set point the board is, in kelvin; `None` if it is so cool that heat
    /// is irrelevant, or its temperature is unknown.
    pub(super) headroom: Option<f64>,
    /// Threads of the pool.
    pub(super) threads_max: u32,
    /// Threads that may be used now.
    pub(super) threads_allowed: u32,
}

/// The resulting threads and duty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent {
    pub(super) threads: u32,
    /// Share of the time spent computing.
    pub(super) duty: f64,
    /// The share to continue from, after a change that must not change the power.
    pub(super) rebase: Option<f64>,
}

/// Decides on threads and duty, and stores the outcome of trials.
#[derive(Clone, Debug)]
pub(super) struct Spending {
    threads: u32,
    changed: Option<Now>,
    /// The headroom with which the running trial began.
    trial: Option<f64>,
    headroom_since: Option<Now>,
    /// When the last trial ended without a gain, and the headroom it began with.
    failed: Option<(Now, f64)>,
}

impl Spending {
    pub(super) fn new(threads: u32) -> Self {
        Self {
            threads,
            changed: None,
            trial: None,
            headroom_since: None,
            failed: None,
        }
    }

    /// The largest share that the current threads can use.
    pub(super) fn top(&self, threads_max: u32) -> f64 {
        f64::from(self.threads) / f64::from(threads_max)
    }

    pub(super) fn spend(&mut self, now: Now, demand: Demand, table: &SpeedTable) -> Spent {
        let max = f64::from(demand.threads_max);
        let mut rebase = None;
        if self.threads > demand.threads_allowed {
            self.change(now, demand.threads_allowed);
        } else if self.has_dwelt(now) {
            match demand.headroom {
                None => self.free(now, demand, table),
                Some(headroom) => {
                    self.shed(now, demand, headroom, table);
                    rebase = self.try_more(now, demand, headroom, table);
                }
            }
        }
        let share = rebase.unwrap_or(demand.share);
        let duty = share * max / f64::from(self.threads);
        Spent {
            threads: self.threads,
            duty: duty.clamp(SHARE_MIN, 1.0),
            rebase,
        }
    }

    /// Heat is irrelevant: chooses the best thread count for the share.
    fn free(&mut self, now: Now, demand: Demand, table: &SpeedTable) {
        // Prefill gains from threads that decode cannot use: with a full share all are used.
        let best = if demand.share >= 1.0 {
            demand.threads_allowed
        } else {
            let budget = demand.share * f64::from(demand.threads_max);
            table.best(demand.threads_allowed, budget)
        };
        self.trial = None;
        self.headroom_since = None;
        self.failed = None;
        if best != self.threads {
            self.change(now, best);
        }
    }

    /// Reduces the threads if fewer are faster at this share.
    fn shed(&mut self, now: Now, demand: Demand, headroom: f64, table: &SpeedTable) {
        if self.trial.is_some() {
            let tried_for = now.saturating_sub(self.changed.unwrap_or(now));
            if headroom > SETTLED_K && tried_for < TRIAL {
                return;
            }
        }
        let budget = (demand.share + HYSTERESIS) * f64::from(demand.threads_max);
        let best = table.best(self.threads, budget);
        let trial = self.trial.take();
        if best < self.threads {
            // Without a trial the current temperature counts, not an old outcome.
            self.failed = trial.map(|began_with| (now, began_with));
            self.change(now, best);
        } else if trial.is_some() {
            self.failed = None;
        }
    }

    /// Starts a trial with more threads, at first without more power, so that the temperature
    /// does not jump; returns the share to continue from.
    fn try_more(
        &mut self,
        now: Now,
        demand: Demand,
        headroom: f64,
        table: &SpeedTable,
    ) -> Option<f64> {
        let max = f64::from(demand.threads_max);
        let next = table.next_faster(self.threads, demand.threads_allowed);
        let worth = next.filter(|(_, crossing)| {
            let needed = KELVIN_PER_THREAD * (crossing - f64::from(self.threads));
            headroom > needed && *crossing < (demand.cap + 1e-9) * max
        });
        let Some((next, _)) = worth else {
            self.headroom_since = None;
            return None;
        };
        let since = *self.headroom_since.get_or_insert(now);
        let is_futile = self.failed.is_some_and(|(at, began_with)| {
            let ago = now.saturating_sub(at);
            ago < WAIT_MIN || ago < WAIT_MAX && headroom < began_with + COOLER_K
        });
        if self.trial.is_some()
            || is_futile
            || now.saturating_sub(since) < HEADROOM_FOR
            || !self.has_dwelt(now)
        {
            return None;
        }
        let share = self.top(demand.threads_max).min(demand.share);
        self.change(now, next);
        self.trial = Some(headroom);
        Some(share)
    }

    fn has_dwelt(&self, now: Now) -> bool {
        self.changed
            .is_none_or(|at| now.saturating_sub(at) >= DWELL)
    }

    fn change(&mut self, now: Now, threads: u32) {
        self.threads = threads.max(1);
        self.changed = Some(now);
        self.headroom_since = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(share: f64, headroom: f64) -> Demand {
        Demand {
            share,
            cap: 1.0,
            headroom: Some(headroom),
            threads_max: 4,
            threads_allowed: 4,
        }
    }

    #[test]
    fn the_fastest_setting_within_a_budget_is_chosen() {
        let table = SpeedTable::default();
        for (budget, threads) in [
            (4.0, 4),
            (3.9, 4),
            (3.7, 3),
            (2.6, 3),
            (2.4, 2),
            (1.2, 2),
            (1.1, 1),
            (0.2, 1),
        ] {
            assert_eq!(table.best(4, budget), threads, "{budget}");
        }
        assert_eq!(table.best(8, 7.9), 4, "the rest brings nothing");
        let (next, crossing) = table.next_faster(3, 4).unwrap();
        assert_eq!((next, (crossing * 100.0).round()), (4, 380.0));
        assert_eq!(table.next_faster(4, 8), None);
    }

    #[test]
    fn a_measured_table_accepts_any_unit_and_refuses_invalid_numbers() {
        let table = SpeedTable::measured(&[9.3, 13.2, 12.4, 11.6]).unwrap();
        assert_eq!(table.best(4, 4.0), 2, "two are fastest on this board");
        for bad in [&[][..], &[0.0, 1.0], &[f64::NAN], &[-1.0]] {
            assert_eq!(SpeedTable::measured(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn threads_are_reduced_before_duty_and_change_after_the_dwell_time() {
        let table = SpeedTable::default();
        let mut spending = Spending::new(4);
        let spend = |spending: &mut Spending, s: u64, share| {
            let spent = spending.spend(Duration::from_secs(s), demand(share, -1.0), &table);
            (spent.threads, (spent.duty * 100.0).round())
        };
        assert_eq!(spend(&mut spending, 0, 0.95), (4, 95.0));
        assert_eq!(spend(&mut spending, 1, 0.85), (3, 100.0));
        // 15 s: until then only the duty changes.
        assert_eq!(spend(&mut spending, 2, 0.40), (3, 53.0));
        assert_eq!(spend(&mut spending, 16, 0.40), (2, 80.0));
        assert_eq!(spend(&mut spending, 60, 0.10), (1, 40.0));
    }

    #[test]
    fn one_more_thread_is_tried_and_dropped_if_it_gains_nothing() {
        let table = SpeedTable::default();
        let mut spending = Spending::new(2);
        let mut changes = Vec::new();
        let mut share: f64 = 0.5;
        for s in 0..14_400 {
            let now = Duration::from_secs(s);
            // This board stays 2 K below the set point with two threads, 3.5 K from the third
            // hour on, and reaches it with a power of 2.2.
            let cooler = if s < 7200 { 2.0 } else { 3.5 };
            let headroom = if spending.threads == 2 {
                cooler
            } else {
                (0.55 - share) * 40.0
            };
            let spent = spending.spend(now, demand(share, headroom), &table);
            if let Some(rebase) = spent.rebase {
                assert!((rebase - 0.5).abs() < 1e-9);
                assert!((spent.duty - 2.0 / 3.0).abs() < 1e-9, "the same power");
                share = rebase;
            }
            share = if spent.threads == 2 {
                0.5
            } else {
                (share + 0.001).min(0.55)
            };
            if changes.last().is_none_or(|(_, n)| *n != spent.threads) {
                changes.push((s, spent.threads));
            }
        }
        let trials: Vec<u64> = changes
            .iter()
            .filter(|(_, n)| *n == 3)
            .map(|(s, _)| *s)
            .collect();
        // Immediately, and when it has become cooler; not every ten minutes.
        assert_eq!(trials, [60, 7200]);
    }

    #[test]
    fn no_trial_is_made_with_little_headroom() {
        let table = SpeedTable::default();
        let mut spending = Spending::new(3);
        for s in 0..3600 {
            let spent = spending.spend(Duration::from_secs(s), demand(0.75, 1.0), &table);
            assert_eq!((spent.threads, spent.duty), (3, 1.0));
        }
    }

    proptest! {
        /// For any demand the power stays within the share after the dwell time, and threads
        /// never change twice within it.
        #[test]
        fn spending_stays_within_the_share_and_the_dwell_time(steps in prop::collection::vec((1u64..20, 0.05f64..1.0, -5.0f64..20.0), 200)) {
            let table = SpeedTable::default();
            let mut spending = Spending::new(4);
            let mut now = Duration::ZERO;
            let mut last: Option<(u32, Duration)> = None;
            for (s, share, headroom) in steps {
                now += Duration::from_secs(s);
                let spent = spending.spend(now, demand(share, headroom), &table);
                let power = f64::from(spent.threads) * spent.duty / 4.0;
                prop_assert!(power <= share + 1e-9, "{power} > {share}");
                if let Some((threads, at)) = last && threads != spent.threads {
                    prop_assert!(at.is_zero() || now.saturating_sub(at) >= DWELL);
                    last = Some((spent.threads, now));
                } else if last.is_none() {
                    last = Some((spent.threads, Duration::ZERO));
                }
            }
        }
    }
}
