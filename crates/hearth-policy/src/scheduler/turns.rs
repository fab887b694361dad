//! Whose turn it is among sets of adapters.
//!
//! Adapters apply to a whole batch, so that sequences with different sets take turns. llama.cpp
//! builds its graphs anew at each change: a set keeps its turn for some ticks.

use hearth_proto::Priority;

/// Ticks after which another set takes its turn.
const TURN: u32 = 8;

/// The set of the last batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AdapterTurns {
    current: u64,
    ticks: u32,
}

impl AdapterTurns {
    /// The set of the next batch, from those of the sequences that are to run: one that a
    /// sequence of the highest class has. Among several each takes its turn, in the order of
    /// their numbers.
    pub(super) fn next(
        self,
        sequences: impl Iterator<Item = (Priority, u64)> + Clone,
    ) -> Option<u64> {
        let highest = sequences.clone().map(|(class, _)| class).min()?;
        let sets = sequences.filter(|(class, _)| *class == highest);
        let sets = sets.map(|(_, set)| set);
        if self.ticks < TURN && sets.clone().any(|set| set == self.current) {
            return Some(self.current);
        }
        let following = sets.clone().filter(|set| *set > self.current);
        following.min().or_else(|| sets.min())
    }

    /// Records a batch of this set.
    pub(super) fn record(&mut self, set: u64) {
        let before = if set == self.current { self.ticks } else { 0 };
        *self = Self {
            current: set,
            ticks: before.saturating_add(1),
        };
    }
}

#[cfg(test)]
mod tests {
    use Priority::{Background, Interactive, Normal};

    use super::*;

    /// The sets of the next batches.
    fn run(turns: &mut AdapterTurns, sequences: &[(Priority, u64)], ticks: u32) -> Vec<u64> {
        let mut seen = Vec::new();
        for _ in 0..ticks {
            let set = turns.next(sequences.iter().copied()).unwrap();
            turns.record(set);
            seen.push(set);
        }
        seen
    }

    #[test]
    fn each_set_gets_the_same_number_of_ticks() {
        let mut turns = AdapterTurns::default();
        let sequences = [(Normal, 9), (Normal, 0), (Normal, 5), (Normal, 5)];
        let seen = run(&mut turns, &sequences, 3 * TURN);
        for set in [0, 5, 9] {
            let count = seen.iter().filter(|s| **s == set).count();
            assert_eq!(count, TURN as usize, "{set}: {seen:?}");
        }
        let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes, 2);
        assert_eq!(run(&mut turns, &sequences, 1), [0]);
    }

    #[test]
    fn a_set_yields_as_soon_as_its_turn_is_over() {
        let mut turns = AdapterTurns::default();
        assert_eq!(turns.next(std::iter::empty()), None);
        assert_eq!(run(&mut turns, &[(Normal, 7)], 100), [7; 100]);
        assert_eq!(run(&mut turns, &[(Normal, 7), (Normal, 3)], 1), [3]);
        // One that has ended does not keep its turn.
        assert_eq!(run(&mut turns, &[(Normal, 7)], 1), [7]);
    }

    #[test]
    fn a_set_with_a_higher_class_comes_first() {
        let mut turns = AdapterTurns::default();
        run(&mut turns, &[(Normal, 7)], 2);
        let both = [(Normal, 7), (Interactive, 3), (Background, 3)];
        assert_eq!(run(&mut turns, &both, 50), [3; 50]);
        assert_eq!(run(&mut turns, &[(Normal, 7), (Background, 3)], 2), [7, 7]);
    }
}
