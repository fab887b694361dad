//! How long to rest so that the engine computes for no more than its share of the time.

use std::collections::VecDeque;
use std::time::Duration;

use hearth_proto::units::Permille;

/// The number of recent decodes, of which the fastest counts. One may take longer for
/// reasons that a rest does not affect: a page read from the memory card, another
/// process.
const WINDOW: usize = 5;
/// The first decodes fault pages in and fill caches: they are not representative.
const SKIPPED: u32 = 3;

/// The times of the last decodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    last: VecDeque<Duration>,
    seen: u32,
}

impl Pace {
    /// The rest after a tick that took `took`. After a tick of single tokens the rest
    /// depends on the fastest of the last ones, after one with a chunk of a prompt on its
    /// own time: all of that was work.
    pub(super) fn rest(&mut self, took: Duration, is_prefill: bool, duty: Permille) -> Duration {
        let work = if is_prefill {
            took
        } else {
            self.seen = self.seen.saturating_add(1);
            if self.seen > SKIPPED {
                self.last.truncate(WINDOW - 1);
                self.last.push_front(took);
            }
            self.last
                .iter()
                .min()
                .map_or(took, |least| took.min(*least))
        };
        let duty = u32::from(duty.0.clamp(1, 1000));
        work * (1000 - duty) / duty
    }

    /// Discards the measurements: the threads or cores have changed.
    pub(super) fn reset(&mut self) {
        self.last.clear();
        self.seen = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn half_the_time_is_rest() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            assert_eq!(pace.rest(ms(40), false, Permille(500)), ms(40));
        }
        assert_eq!(pace.rest(ms(40), false, Permille(800)), ms(10));
        assert_eq!(pace.rest(ms(40), false, Permille::FULL), ms(0));
        // A duty of 0 still makes progress.
        assert_eq!(pace.rest(ms(1), false, Permille(0)), ms(999));
    }

    #[test]
    fn a_cold_token_makes_no_long_rest() {
        let mut pace = Pace::default();
        let rests: Vec<u64> = [300, 200, 100, 40, 400, 41, 42, 43, 44]
            .into_iter()
            .map(|took| pace.rest(ms(took), false, Permille(500)))
            .map(|rest| u64::try_from(rest.as_millis()).unwrap())
            .collect();
        assert_eq!(rests, [300, 200, 100, 40, 40, 40, 40, 40, 41]);
    }

    #[test]
    fn a_prompts_chunk_rests_by_its_own_time() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.rest(ms(10), false, Permille(500));
        }
        assert_eq!(pace.rest(ms(700), true, Permille(500)), ms(700));
        assert_eq!(pace.rest(ms(12), false, Permille(500)), ms(10));
        pace.reset();
        assert_eq!(pace.rest(ms(90), false, Permille(500)), ms(90));
    }
}
