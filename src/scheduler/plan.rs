//! What the next batch holds: one token of every sequence that decodes, then a chunk
//! of the prompt of one that does not yet.
//!
//! Decoding goes first, so that a long prompt never stalls a running answer. The
//! engine has one slot today; the plan does not depend on it.

use crate::protocol::Limits;

/// Names a slot of [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(usize);

/// What one sequence does in a batch. Positions count tokens from the sequence's
/// beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The prompt's tokens `from..to`.
    Prefill {
        /// The first.
        from: u32,
        /// One past the last.
        to: u32,
        /// Whether the prompt ends here, so that a token can be sampled.
        last: bool,
    },
    /// The token sampled last.
    Decode {
        /// Where it goes.
        position: u32,
    },
}

impl Work {
    /// Tokens that the batch spends on it.
    pub fn tokens(self) -> u32 {
        match self {
            Self::Prefill { from, to, .. } => to - from,
            Self::Decode { .. } => 1,
        }
    }

    /// Whether a token is sampled afterwards.
    pub fn samples(self) -> bool {
        matches!(self, Self::Decode { .. } | Self::Prefill { last: true, .. })
    }
}

/// One sequence's part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub slot: SlotId,
    /// What.
    pub work: Work,
}

/// One tick's work; reused from tick to tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    steps: Vec<Step>,
}

impl Batch {
    /// The parts, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// Where a sequence stands.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    /// Tokens of the prompt, at least 1.
    prompt: u32,
    /// Tokens in the KV cache.
    done: u32,
}

/// The slots of an engine: each empty, or with one sequence.
#[derive(Clone, Debug)]
pub struct Slots {
    slots: Vec<Option<Sequence>>,
}

impl Slots {
    /// `count` empty slots, at least one.
    pub fn new(count: usize) -> Self {
        Self {
            slots: vec![None; count.max(1)],
        }
    }

    /// Empty slots.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|s| s.is_none()).count()
    }

    /// Puts a sequence into an empty slot, with the first `cached` tokens of its prompt
    /// in the KV cache already. `None` where all slots are taken, or the prompt is
    /// empty. At least one token is left to decode: its logits give the first answer
    /// token.
    pub fn take(&mut self, prompt: u32, cached: u32) -> Option<SlotId> {
        let done = cached.min(prompt.checked_sub(1)?);
        let at = self.slots.iter().position(Option::is_none)?;
        self.slots[at] = Some(Sequence { prompt, done });
        Some(SlotId(at))
    }

    /// Plans the next tick into `batch`; left empty where there is nothing to do or the
    /// limits forbid all work.
    pub fn plan(&self, limits: &Limits, batch: &mut Batch) {
        batch.steps.clear();
        if limits.paused {
            return;
        }
        let mut prefill = None;
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(Sequence { prompt, done }) = *slot else {
                continue;
            };
            let slot = SlotId(at);
            if done >= prompt {
                let work = Work::Decode { position: done };
                batch.steps.push(Step { slot, work });
            } else if prefill.is_none() {
                let to = done.saturating_add(limits.prefill_chunk.max(1)).min(prompt);
                let work = Work::Prefill {
                    from: done,
                    to,
                    last: to == prompt,
                };
                prefill = Some(Step { slot, work });
            }
        }
        batch.steps.extend(prefill);
    }

    /// Notes that a step was decoded.
    pub fn apply(&mut self, step: Step) {
        if let Some(Some(sequence)) = self.slots.get_mut(step.slot.0) {
            sequence.done = match step.work {
                Work::Prefill { to, .. } => to,
                Work::Decode { position } => position + 1,
            };
        }
    }

    /// Empties a slot, whatever its sequence did last.
    pub fn release(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(slot.0) {
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn limits(prefill_chunk: u32) -> Limits {
        Limits {
            prefill_chunk,
            ..Limits::default()
        }
    }

    fn planned(slots: &Slots, limits: &Limits) -> Vec<Work> {
        let mut batch = Batch::default();
        slots.plan(limits, &mut batch);
        batch.steps().iter().map(|s| s.work).collect()
    }

    fn step(slots: &mut Slots, limits: &Limits) -> Vec<Work> {
        let mut batch = Batch::default();
        slots.plan(limits, &mut batch);
        batch.steps().iter().for_each(|s| slots.apply(*s));
        batch.steps().iter().map(|s| s.work).collect()
    }

    #[test]
    fn a_prompt_goes_in_chunks_then_tokens_follow() {
        let mut slots = Slots::new(1);
        slots.take(5, 0).unwrap();
        assert_eq!(slots.take(5, 0), None);
        let limits = limits(2);
        let prefill = |from, to, last| vec![Work::Prefill { from, to, last }];
        assert_eq!(step(&mut slots, &limits), prefill(0, 2, false));
        assert_eq!(step(&mut slots, &limits), prefill(2, 4, false));
        assert_eq!(step(&mut slots, &limits), prefill(4, 5, true));
        assert_eq!(step(&mut slots, &limits), [Work::Decode { position: 5 }]);
        assert_eq!(step(&mut slots, &limits), [Work::Decode { position: 6 }]);
    }

    #[test]
    fn a_cached_prompt_still_decodes_its_last_token() {
        let mut slots = Slots::new(1);
        slots.take(5, 5).unwrap();
        let work = planned(&slots, &limits(128));
        assert_eq!(
            work,
            [Work::Prefill {
                from: 4,
                to: 5,
                last: true
            }]
        );
    }

    #[test]
    fn paused_plans_nothing_and_a_chunk_of_zero_still_moves() {
        let mut slots = Slots::new(1);
        slots.take(3, 0).unwrap();
        let paused = Limits {
            paused: true,
            ..limits(8)
        };
        assert_eq!(planned(&slots, &paused), []);
        assert_eq!(planned(&slots, &limits(0))[0].tokens(), 1);
        assert_eq!(slots.take(0, 0), None);
    }

    #[test]
    fn running_answers_go_before_a_long_prompt() {
        let mut slots = Slots::new(2);
        slots.take(1, 0).unwrap();
        step(&mut slots, &limits(8));
        slots.take(100, 0).unwrap();
        let works = planned(&slots, &limits(8));
        assert_eq!(works[0], Work::Decode { position: 1 });
        assert_eq!(works[1].tokens(), 8);
    }

    proptest! {
        /// Every sequence ends exactly once, having decoded exactly its tokens, and no
        /// slot leaks, whatever is cancelled when.
        #[test]
        fn every_submit_ends_once(
            jobs in prop::collection::vec((1u32..40, 0u32..40, 1u32..10, prop::option::of(0usize..20)), 1..20),
            count in 1usize..4,
            chunk in 0u32..16,
        ) {
            let mut slots = Slots::new(count);
            let mut waiting: Vec<usize> = (0..jobs.len()).rev().collect();
            let mut running: HashMap<SlotId, (usize, u32, u32, usize)> = HashMap::new();
            let mut ended = vec![0; jobs.len()];
            let limits = limits(chunk);
            let mut batch = Batch::default();
            while !waiting.is_empty() || !running.is_empty() {
                while let Some(job) = waiting.last().copied() {
                    let Some(slot) = slots.take(jobs[job].0, jobs[job].1) else { break };
                    let cached = jobs[job].1.min(jobs[job].0 - 1);
                    prop_assert!(running.insert(slot, (job, cached, 0, 0)).is_none());
                    waiting.pop();
                }
                slots.plan(&limits, &mut batch);
                prop_assert!(!batch.steps().is_empty());
                for step in batch.steps() {
                    let entry = running.get_mut(&step.slot).unwrap();
                    let (job, done, generated, ticks) = *entry;
                    let (prompt, _, most, cancel_at) = jobs[job];
                    if cancel_at == Some(ticks) {
                        slots.release(step.slot);
                        running.remove(&step.slot);
                        ended[job] += 1;
                        continue;
                    }
                    match step.work {
                        Work::Prefill { from, to, last } => {
                            prop_assert_eq!(from, done);
                            prop_assert!(to > from && to <= prompt && to - from <= chunk.max(1));
                            prop_assert_eq!(last, to == prompt);
                        }
                        Work::Decode { position } => prop_assert_eq!(position, done),
                    }
                    slots.apply(*step);
                    let generated = generated + u32::from(step.work.samples());
                    *entry = (job, done + step.work.tokens(), generated, ticks + 1);
                    if generated == most {
                        slots.release(step.slot);
                        running.remove(&step.slot);
                        ended[job] += 1;
                    }
                }
            }
            prop_assert!(ended.iter().all(|n| *n == 1));
            prop_assert_eq!(slots.free(), count);
        }
    }
}
