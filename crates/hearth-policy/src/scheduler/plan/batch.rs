//! A planned batch.

use std::time::Duration;

use hearth_proto::Priority;

/// Identifies a slot of [`Slots`](super::Slots).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub(super) usize);

/// What one sequence does in a batch. Positions count tokens from the sequence's
/// beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The tokens `from..to` of a prompt.
    Prefill {
        /// The first.
        from: u32,
        /// One past the last.
        to: u32,
        /// Whether the known tokens end here, so that the next can be sampled.
        last: bool,
    },
    /// The answer's tokens `from..to` that are not in the KV cache yet: the one
    /// sampled last, and those that a constraint forced after it.
    Decode {
        /// The first.
        from: u32,
        /// One past the last.
        to: u32,
    },
}

impl Work {
    /// The first token's position, and one past the last's.
    pub fn range(self) -> (u32, u32) {
        match self {
            Self::Prefill { from, to, .. } | Self::Decode { from, to } => (from, to),
        }
    }

    /// Tokens that the batch spends on it.
    pub fn tokens(self) -> u32 {
        let (from, to) = self.range();
        to - from
    }

    /// Whether a token is sampled afterwards.
    pub fn samples(self) -> bool {
        matches!(self, Self::Decode { .. } | Self::Prefill { last: true, .. })
    }
}

/// One sequence's part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The sequence.
    pub slot: SlotId,
    /// What is decoded of it.
    pub work: Work,
}

/// Sort key of the order in which sequences take turns: class, arrival, slot.
pub(super) type Turn = (Priority, Duration, usize);

/// One tick's work; reused from tick to tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) order: Vec<Turn>,
}

impl Batch {
    /// The parts, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a sequence has a part in it.
    pub fn has(&self, slot: SlotId) -> bool {
        self.steps.iter().any(|step| step.slot == slot)
    }

    /// Replaces the batch by this step alone.
    pub fn set_only(&mut self, step: Step) {
        self.steps.clear();
        self.steps.push(step);
    }

    /// Leaves a sequence out of this tick.
    pub fn drop_slot(&mut self, slot: SlotId) {
        self.steps.retain(|step| step.slot != slot);
    }
}
