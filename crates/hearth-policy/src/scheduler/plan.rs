//! The contents of the next batch: the tokens of every sequence that decodes, then a chunk
//! of the prompt of one that does not yet.
//!
//! Decoding goes first, so that a long prompt never stalls a running answer by more
//! than one chunk. If there are more sequences than may run at once, the higher classes
//! run; the others keep their place and continue later.

mod batch;

use std::time::Duration;

use hearth_proto::{Limits, Priority};

use super::queue::AGEING;
use super::turns::AdapterTurns;
use batch::Turn;
pub use batch::{Batch, SlotId, Step, Work};

/// State of a sequence.
#[derive(Clone, Debug)]
struct Sequence {
    /// Tokens known: those of the prompt and of the answer so far.
    known: u32,
    /// Tokens in the KV cache, fewer than known.
    done: u32,
    /// Whether the prompt is complete.
    answering: bool,
    /// Whether it waits for free cells in the KV cache.
    parked: bool,
    /// Whether it must be alone in its batch.
    alone: bool,
    /// Identifies its set of adapters, which all sequences of a batch have.
    adapters: u64,
    /// Positions at which a part of its prompt must end, ascending.
    stops: Vec<u32>,
    class: Priority,
    since: Duration,
    /// Time of its last turn, or of its arrival.
    served: Duration,
}

impl Sequence {
    /// Its class, one higher for each [`AGEING`] that it has waited for its turn. Being
    /// computed does not count as waiting: a prompt that takes minutes keeps its class, and a
    /// request of a higher class that arrives meanwhile goes first.
    fn class(&self, now: Duration) -> Priority {
        self.class.aged(now.saturating_sub(self.served), AGEING)
    }
}

/// The slots of an engine: each empty, or with one sequence.
#[derive(Clone, Debug)]
pub struct Slots {
    slots: Vec<Option<Sequence>>,
    /// Sequences in one batch.
    width: usize,
    /// Tokens in one batch.
    batch_max: u32,
    turns: AdapterTurns,
}

impl Slots {
    /// `count` empty slots, of which `width` run at once, with at most `batch_max`
    /// tokens in a batch; each at least one.
    pub fn new(count: usize, width: usize, batch_max: u32) -> Self {
        Self {
            slots: vec![None; count.max(1)],
            width: width.max(1),
            batch_max: batch_max.max(1),
            turns: AdapterTurns::default(),
        }
    }

    /// Empty slots.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|s| s.is_none()).count()
    }

    /// Puts a sequence into an empty slot at time `now`, with the first `cached` of its
    /// `known` tokens in the KV cache already. `None` where all slots are taken, or
    /// nothing is known. At least one token is left to decode: its logits give the next.
    pub fn take(
        &mut self,
        now: Duration,
        class: Priority,
        known: u32,
        cached: u32,
    ) -> Option<SlotId> {
        let done = cached.min(known.checked_sub(1)?);
        let at = self.slots.iter().position(Option::is_none)?;
        self.slots[at] = Some(Sequence {
            known,
            done,
            answering: false,
            parked: false,
            alone: false,
            adapters: 0,
            stops: Vec::new(),
            class,
            since: now,
            served: now,
        });
        Some(SlotId(at))
    }

    /// Plans the next tick into `batch`; left empty where there is nothing to do or the
    /// limits forbid all work.
    // Longer than a screen: its steps share the room that is left in the batch.
    pub fn plan(&self, now: Duration, limits: &Limits, batch: &mut Batch) {
        batch.steps.clear();
        if limits.paused {
            return;
        }
        self.order(now, &mut batch.order);
        if limits.slots > 0 {
            batch.order.truncate(limits.slots as usize);
        }
        self.separate(&mut batch.order);
        self.keep_one_set(&mut batch.order);
        let mut left = self.batch_max;
        let mut others = u32::try_from(batch.order.len()).unwrap_or(u32::MAX);
        let mut prefill = None;
        for &(_, _, at) in &batch.order {
            others -= 1;
            let Some(sequence) = &self.slots[at] else {
                continue;
            };
            let (known, done) = (sequence.known, sequence.done);
            let slot = SlotId(at);
            if sequence.answering {
                // One token is reserved for each of the others, including the prefill.
                let others = others + u32::from(prefill.is_some());
                let most = left.saturating_sub(others).max(1);
                let to = known.min(done.saturating_add(most));
                left = left.saturating_sub(to - done);
                let work = if to == known {
                    Work::Decode { from: done, to }
                } else {
                    Work::Prefill {
                        from: done,
                        to,
                        last: false,
                    }
                };
                batch.steps.push(Step { slot, work });
            } else {
                prefill.get_or_insert((slot, sequence));
            }
        }
        let Some((slot, sequence)) = prefill else {
            return;
        };
        let (from, known) = (sequence.done, sequence.known);
        // A sequence that is alone is computed in the same parts whatever the limits are.
        let chunk = if sequence.alone {
            self.batch_max
        } else {
            limits.prefill_chunk.min(left).max(1)
        };
        let stop = sequence.stops.iter().copied().find(|stop| *stop > from);
        let most = known.min(stop.unwrap_or(known));
        let to = from.saturating_add(chunk).min(most);
        let work = Work::Prefill {
            from,
            to,
            last: to == known,
        };
        batch.steps.push(Step { slot, work });
    }

    /// If the first in turn must be alone, removes the others; else removes those that must be
    /// alone.
    fn separate(&self, order: &mut Vec<Turn>) {
        let is_alone = |turn: &Turn| self.slots[turn.2].as_ref().is_some_and(|s| s.alone);
        if order.first().is_some_and(is_alone) {
            order.truncate(1);
        } else {
            order.retain(|turn| !is_alone(turn));
        }
    }

    /// Removes the sequences with other adapters than those whose turn it is.
    fn keep_one_set(&self, order: &mut Vec<Turn>) {
        let set = |at: usize| self.slots[at].as_ref().map_or(0, |s| s.adapters);
        let sequences = order.iter().map(|(class, _, at)| (*class, set(*at)));
        if let Some(next) = self.turns.next(sequences) {
            order.retain(|(_, _, at)| set(*at) == next);
        }
    }

    /// Records that the planned batch is computed: it is a part of the turn of its set of
    /// adapters.
    pub fn begin(&mut self, batch: &Batch) {
        let first = batch.steps.first();
        let sequence = first.and_then(|step| self.slots.get(step.slot.0)?.as_ref());
        if let Some(set) = sequence.map(|sequence| sequence.adapters) {
            self.turns.record(set);
        }
    }

    /// Sets what identifies a sequence's set of adapters; 0 for none.
    pub fn set_adapters(&mut self, slot: SlotId, adapters: u64) {
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.adapters = adapters;
        }
    }

    fn turns(&self, now: Duration, order: &mut Vec<Turn>) {
        order.clear();
        let here = self.slots.iter().enumerate();
        order.extend(here.filter_map(|(at, slot)| {
            let sequence = slot.as_ref()?;
            Some((sequence.class(now), sequence.since, at))
        }));
        order.sort_unstable();
    }

    /// The sequences that run now, the first in turn first: at most `width`, and background
    /// work only if there is no other.
    fn order(&self, now: Duration, order: &mut Vec<Turn>) {
        self.turns(now, order);
        let is_parked = |at: usize| self.slots[at].as_ref().is_some_and(|s| s.parked);
        if order.iter().any(|turn| !is_parked(turn.2)) {
            order.retain(|turn| !is_parked(turn.2));
        }
        order.truncate(self.width);
        if order
            .first()
            .is_some_and(|first| first.0 != Priority::Background)
        {
            order.retain(|entry| entry.0 != Priority::Background);
        }
    }

    /// All sequences, the first in turn first.
    pub fn in_turn(&self, now: Duration) -> Vec<SlotId> {
        let mut order = Vec::new();
        self.turns(now, &mut order);
        order.into_iter().map(|(_, _, at)| SlotId(at)).collect()
    }

    /// A sequence's class at `now`.
    pub fn class(&self, now: Duration, slot: SlotId) -> Option<Priority> {
        let sequence = self.slots.get(slot.0)?.as_ref()?;
        Some(sequence.class(now))
    }

    /// Tokens of a sequence that are in the KV cache.
    pub fn done(&self, slot: SlotId) -> u32 {
        let sequence = self.slots.get(slot.0).and_then(Option::as_ref);
        sequence.map_or(0, |sequence| sequence.done)
    }

    /// Sets the positions, ascending, at which parts of a sequence's prompt must also end.
    pub fn stop_at(&mut self, slot: SlotId, stops: Vec<u32>) {
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.stops = stops;
        }
    }

    /// Computes a sequence in batches of its own from now on.
    pub fn set_alone(&mut self, slot: SlotId) {
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.alone = true;
        }
    }

    /// Whether a sequence is computed in batches of its own.
    pub fn is_alone(&self, slot: SlotId) -> bool {
        let sequence = self.slots.get(slot.0).and_then(Option::as_ref);
        sequence.is_some_and(|sequence| sequence.alone)
    }

    /// Records that a sequence's first `tokens` were found in the KV cache; returns how many
    /// of them count: at least one is left to decode.
    pub fn set_cached(&mut self, slot: SlotId, tokens: u32) -> u32 {
        let Some(Some(sequence)) = self.slots.get_mut(slot.0) else {
            return 0;
        };
        sequence.done = tokens.min(sequence.known - 1);
        sequence.done
    }

    /// Records that a step was decoded by `now`.
    pub fn apply(&mut self, now: Duration, step: Step) {
        if let Some(Some(sequence)) = self.slots.get_mut(step.slot.0) {
            sequence.served = now;
            sequence.done = step.work.range().1;
            sequence.answering |= step.work.samples();
        }
    }

    /// Records that `tokens` more are known: sampled, or forced.
    pub fn extend(&mut self, slot: SlotId, tokens: u32) {
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.known = sequence.known.saturating_add(tokens);
        }
    }

    /// Records that a sequence was evicted from the KV cache because it is full: all of it is
    /// computed again, after another one has ended.
    pub fn park(&mut self, slot: SlotId) {
        self.restart(slot);
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.parked = true;
        }
    }

    /// Records that a sequence was evicted from the KV cache: all of it is computed again.
    pub fn restart(&mut self, slot: SlotId) {
        if let Some(Some(sequence)) = self.slots.get_mut(slot.0) {
            sequence.done = 0;
            sequence.answering = false;
        }
    }

    /// Empties a slot, whatever its sequence did last.
    pub fn release(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(slot.0) {
            *slot = None;
        }
        for sequence in self.slots.iter_mut().flatten() {
            sequence.parked = false;
        }
    }
}

#[cfg(test)]
mod tests;
