//! How engines that work at the same time share the board's limits. Pure.
//!
//! Threads are never given twice. Engines of one class divide them; where there are fewer
//! threads than engines, they take turns. An engine of a lower class computes only in short
//! turns, during which the higher ones pause: it makes progress, and costs them at most the
//! share of its turns.

use std::time::Duration;

use hearth_proto::{Limits, Priority};

/// A turn of the lower classes begins once in this time.
const PERIOD: Duration = Duration::from_secs(5);
/// The length of their turn: 6 % of the time, since a step that has begun is finished.
const LOWER_TURN: Duration = Duration::from_millis(300);
/// The length of a turn where there are fewer threads than engines of one class.
const EQUAL_TURN: Duration = Duration::from_millis(500);

/// The limits of each engine, and how long they apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// In the order of the engines.
    pub limits: Vec<Limits>,
    /// Until when, if the engines' work does not change before; `None`: for as long as it
    /// does not change.
    pub until: Option<Duration>,
}

/// Divides the board's limits between engines; `work` holds the highest class that each of
/// them works on, `None` for an idle one. Idle engines keep the whole limits: they do not
/// compute.
pub fn divide(now: Duration, limits: &Limits, work: &[Option<Priority>]) -> Division {
    let highest = work.iter().flatten().min();
    let is_high = |class: &Option<Priority>| class.is_some() && class.as_ref() == highest;
    let is_low = |class: &Option<Priority>| class.is_some() && class.as_ref() != highest;
    let (high, low) = (count(work, is_high), count(work, is_low));
    if high + low < 2 || limits.paused {
        return Division {
            limits: vec![*limits; work.len()],
            until: None,
        };
    }
    let phase = remainder(now, PERIOD);
    let is_turn_of_low = low > 0 && phase < LOWER_TURN;
    let (active, rotation) = if is_turn_of_low {
        (low, PERIOD)
    } else {
        (high, EQUAL_TURN)
    };
    let takes_turns = usize::try_from(limits.threads).is_ok_and(|threads| threads < active);
    let edge = if is_turn_of_low { LOWER_TURN } else { PERIOD };
    let mut until = (low > 0).then_some(now.saturating_sub(phase) + edge);
    if takes_turns && !is_turn_of_low {
        let edge = now.saturating_sub(remainder(now, EQUAL_TURN)) + EQUAL_TURN;
        until = Some(until.map_or(edge, |other| other.min(edge)));
    }
    let turns_at = now.as_millis() / rotation.as_millis() % active.max(1) as u128;
    let mut at = 0;
    let divided = work.iter().map(|class| {
        let is_active = if is_turn_of_low {
            is_low(class)
        } else {
            is_high(class)
        };
        if class.is_none() {
            return *limits;
        }
        if !is_active {
            return paused(limits);
        }
        let place = at;
        at += 1;
        match takes_turns {
            true if place as u128 == turns_at => *limits,
            true => paused(limits),
            false => share(limits, active, place),
        }
    });
    let divided: Vec<Limits> = divided.collect();
    Division {
        limits: divided,
        until,
    }
}

/// The threads of one of `active` engines; the first ones get what is left over.
fn share(limits: &Limits, active: usize, place: usize) -> Limits {
    let active = u32::try_from(active).unwrap_or(u32::MAX).max(1);
    let more = u32::try_from(place).is_ok_and(|place| place < limits.threads % active);
    let threads = (limits.threads / active + u32::from(more)).max(1);
    Limits {
        threads,
        decode_threads: limits.decode_threads.min(threads),
        ..*limits
    }
}

fn paused(limits: &Limits) -> Limits {
    Limits {
        paused: true,
        ..*limits
    }
}

fn count(work: &[Option<Priority>], condition: impl Fn(&Option<Priority>) -> bool) -> usize {
    work.iter().filter(|class| condition(class)).count()
}

fn remainder(time: Duration, of: Duration) -> Duration {
    let nanos = time.as_nanos() % of.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HIGH: Option<Priority> = Some(Priority::Interactive);
    const LOW: Option<Priority> = Some(Priority::Background);

    fn limits(threads: u32) -> Limits {
        Limits {
            threads,
            decode_threads: 3,
            ..Limits::default()
        }
    }

    /// The threads of each engine, 0 for a paused one.
    fn threads(ms: u64, threads: u32, work: &[Option<Priority>]) -> Vec<u32> {
        let division = divide(Duration::from_millis(ms), &limits(threads), work);
        let of = |limits: &Limits| if limits.paused { 0 } else { limits.threads };
        division.limits.iter().map(of).collect()
    }

    #[test]
    fn one_engine_gets_everything() {
        for work in [&[HIGH][..], &[None, LOW], &[None, None]] {
            let division = divide(Duration::ZERO, &limits(4), work);
            assert_eq!(division.limits, vec![limits(4); work.len()]);
            assert_eq!(division.until, None);
        }
    }

    #[test]
    fn engines_of_one_class_divide_the_threads() {
        assert_eq!(threads(0, 4, &[HIGH, HIGH]), [2, 2]);
        assert_eq!(threads(0, 4, &[HIGH, None, HIGH, HIGH]), [2, 4, 1, 1]);
        // Or take turns where there are too few.
        assert_eq!(threads(0, 1, &[HIGH, HIGH]), [1, 0]);
        assert_eq!(threads(500, 1, &[HIGH, HIGH]), [0, 1]);
        let division = divide(Duration::from_millis(700), &limits(1), &[HIGH, HIGH]);
        assert_eq!(division.until, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_lower_class_has_short_turns() {
        let work = [LOW, HIGH];
        assert_eq!(threads(1000, 4, &work), [0, 4]);
        assert_eq!(threads(5100, 4, &work), [4, 0]);
        assert_eq!(threads(5300, 4, &work), [0, 4]);
        let division = divide(Duration::from_millis(5100), &limits(4), &work);
        assert_eq!(division.until, Some(Duration::from_millis(5300)));
        let division = divide(Duration::from_millis(5300), &limits(4), &work);
        assert_eq!(division.until, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_paused_board_pauses_all() {
        let all = Limits {
            paused: true,
            ..limits(4)
        };
        let division = divide(Duration::ZERO, &all, &[HIGH, LOW]);
        assert_eq!(division.limits, [all, all]);
    }

    proptest! {
        /// Working engines never have more threads than allowed in all, some engine always
        /// computes, and each of them computes at some time.
        #[test]
        fn threads_are_given_once(
            allowed in 1u32..9,
            classes in prop::collection::vec(prop::option::of(0usize..3), 1..6),
        ) {
            let names = [Priority::Interactive, Priority::Normal, Priority::Background];
            let work: Vec<Option<Priority>> =
                classes.iter().map(|class| class.map(|n| names[n])).collect();
            let mut computed = vec![false; work.len()];
            let mut now = Duration::ZERO;
            while now < Duration::from_mins(1) {
                let division = divide(now, &limits(allowed), &work);
                let working = division.limits.iter().zip(&work).filter(|(l, w)| w.is_some() && !l.paused);
                let in_all: u32 = working.map(|(l, _)| l.threads).sum();
                prop_assert!(in_all <= allowed, "{in_all} threads of {allowed}");
                prop_assert!(in_all > 0 || work.iter().all(Option::is_none));
                for (at, limits) in division.limits.iter().enumerate() {
                    computed[at] |= !limits.paused;
                }
                let Some(until) = division.until else { break };
                prop_assert!(until > now);
                now = until;
            }
            prop_assert!(computed.iter().all(|c| *c), "{computed:?} of {work:?}");
        }
    }
}
