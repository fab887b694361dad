//! Prefix reuse: looks up the prefix of a prompt among running sequences, finished ones
//! in memory and the disk cache; and creates the checkpoints for it.
//!
//! A match is compared token by token, and the positions that are really in memory are
//! checked before it is used: see [`MemoryKind`](hearth_policy::scheduler::MemoryKind).

use hearth_policy::scheduler::{Hit, Lengths, SlotId};
use hearth_proto::{CacheScope, FinishReason, Reuse, common_prefix};

use super::as_u32;
use super::backend::{Backend, Token};
use super::prefix_cache::Target;
use super::worker::Worker;

/// Two boundaries this close to each other (in tokens) are not worth a copy each.
const NEAR: usize = 16;

impl<B: Backend> Worker<B> {
    /// Looks up the prefix of a prompt that is about to be computed from its first token:
    /// it may be in memory by now. Returns whether the batch has to be planned again.
    pub(super) fn look_up(&mut self) -> bool {
        let Some(step) = self.batch.steps().last().copied() else {
            return false;
        };
        if step.work.range().0 > 0 {
            return false;
        }
        let slot = step.slot;
        let Some(sequence) = self.sequences.get_mut(&slot) else {
            return false;
        };
        if sequence.reuse != Reuse::Allowed || !self.backend.memory().can_share() {
            sequence.start(0, false, &mut self.events);
            // The context has memory for the logits of so many tokens.
            let outputs = self.backend.sequences().all();
            let Some(stops) = sequence.prompt_stops(outputs) else {
                return false;
            };
            self.slots.stop_at(slot, stops);
            self.slots.set_alone(slot);
            return true;
        }
        if self.finish_prewarmed(slot) {
            self.batch.drop_slot(slot);
            return false;
        }
        let mut hit = self.find(slot);
        let known = hit.map_or(0, |hit| hit.tokens);
        let cached = self.cache.len();
        let restored = self.restore(slot, known);
        if restored.is_none() && self.cache.len() < cached {
            // The sequence that was found may have been evicted by the failed restore.
            hit = self.find(slot);
        }
        let found = restored.unwrap_or_else(|| hit.map_or(0, |hit| self.share(slot, hit)));
        let found = self.slots.set_cached(slot, found);
        if let Some(sequence) = self.sequences.get_mut(&slot) {
            sequence.start(found, restored.is_some(), &mut self.events);
            if restored.is_some() {
                sequence.add_boundary(found as usize);
            }
        }
        self.set_boundaries(slot);
        if found > 0 {
            self.checkpoint(slot, found);
        }
        // A part of the prompt may now have to end earlier, too.
        found > 0 || self.backend.memory().needs_checkpoints()
    }

    /// Shares the prefix of another sequence; returns the number of tokens.
    fn share(&mut self, slot: SlotId, hit: Hit) -> u32 {
        let Some(sequence) = self.sequences.get_mut(&slot) else {
            return 0;
        };
        if !self.backend.share(hit.seq, sequence.seq, hit.tokens) {
            return 0;
        }
        // Where checkpoints are needed, see `set_boundaries`.
        if hit.diverges && !self.backend.memory().needs_checkpoints() {
            sequence.set_stable(hit.tokens);
        }
        hit.tokens
    }

    /// Splits the prompt into parts that end where another prompt may diverge from it.
    fn set_boundaries(&mut self, slot: SlotId) {
        if !self.backend.memory().needs_checkpoints() {
            return;
        }
        let Some(sequence) = self.sequences.get_mut(&slot) else {
            return;
        };
        let tokens = sequence.tokens();
        let divergence = self.cache.divergence(sequence.scope(), reusable(tokens));
        let near = divergence.saturating_sub(NEAR)..=divergence;
        let mut known = sequence.lengths().boundaries;
        known.extend(self.cache.forks(sequence.scope(), tokens));
        if divergence > 0 && !known.iter().any(|boundary| near.contains(boundary)) {
            sequence.set_stable(as_u32(divergence));
            sequence.add_boundary(divergence);
        }
        let boundaries = sequence.lengths().boundaries;
        let mut stops: Vec<u32> = boundaries.into_iter().map(as_u32).collect();
        stops.extend(sequence.pieces.stops());
        stops.sort_unstable();
        stops.dedup();
        self.slots.stop_at(slot, stops);
    }

    /// Keeps a copy of a sequence that now ends at one of its boundaries.
    pub(super) fn checkpoint(&mut self, slot: SlotId, tokens: u32) {
        if !self.backend.memory().needs_checkpoints() {
            return;
        }
        let Some(sequence) = self.sequences.get(&slot) else {
            return;
        };
        let lengths = sequence.lengths();
        let is_boundary = lengths.boundaries.contains(&(tokens as usize));
        if sequence.reuse != Reuse::Allowed || !is_boundary {
            return;
        }
        let kept = sequence.tokens().get(..tokens as usize).unwrap_or_default();
        let from = (sequence.seq, sequence.scope());
        self.cache
            .checkpoint(&mut self.backend, from, kept, &lengths);
    }

    /// Ends a prewarm request whose whole prompt is cached, and returns whether it was: where
    /// a sequence cannot be cut, none of its tokens can be computed again.
    fn finish_prewarmed(&mut self, slot: SlotId) -> bool {
        let Some(sequence) = self.sequences.get(&slot) else {
            return false;
        };
        if !sequence.is_prewarm() || !self.backend.memory().needs_checkpoints() {
            return false;
        }
        let (scope, seq) = (sequence.scope(), sequence.seq);
        let tokens = sequence.tokens();
        let count = as_u32(tokens.len());
        let hit = self.cache.find(&self.backend, scope, tokens, tokens.len());
        let is_kept = hit.is_some_and(|hit| hit.tokens == count);
        let target = self.target(seq, scope);
        let from_disk = !is_kept && {
            let restored = self
                .cache
                .restore(&mut self.backend, target, tokens, count - 1);
            restored == Some(count)
        };
        if !is_kept && !from_disk {
            self.backend.remove(seq, 0);
            return false;
        }
        let Some(mut sequence) = self.sequences.remove(&slot) else {
            return false;
        };
        self.slots.release(slot);
        sequence.start(count, from_disk, &mut self.events);
        sequence.finish(FinishReason::Length, &mut self.events);
        if from_disk {
            let lengths = Lengths {
                stable: 0,
                ..sequence.lengths()
            };
            let tokens = sequence.tokens().to_vec();
            self.cache
                .insert(&mut self.backend, (seq, scope), tokens, &lengths);
        } else {
            self.cache.free(&mut self.backend, seq);
        }
        true
    }

    /// Restores the prefix of a sequence from disk where more than `known` tokens of it
    /// are there; returns how many.
    fn restore(&mut self, slot: SlotId, known: u32) -> Option<u32> {
        let sequence = self.sequences.get(&slot)?;
        let target = self.target(sequence.seq, sequence.scope());
        let prompt = reusable(sequence.tokens());
        self.cache.restore(&mut self.backend, target, prompt, known)
    }

    fn target(&self, seq: u32, scope: CacheScope) -> Target {
        Target {
            seq,
            scope,
            is_only: self.sequences.len() == 1,
        }
    }

    /// The longest usable prefix of a sequence that another one has, running or finished.
    fn find(&mut self, slot: SlotId) -> Option<Hit> {
        let sequence = self.sequences.get(&slot)?;
        let tokens = sequence.tokens();
        let prompt = reusable(tokens);
        let backend = &self.backend;
        let finished = self
            .cache
            .find(backend, sequence.scope(), tokens, prompt.len());
        let running = self
            .sequences
            .iter()
            .filter(|(other, running)| **other != slot && running.scope() == sequence.scope())
            .map(|(other, running)| {
                let done = self.slots.done(*other) as usize;
                let computed = running.tokens().iter().take(done);
                Hit {
                    seq: running.seq,
                    tokens: as_u32(common_prefix(computed, prompt)),
                    diverges: false,
                }
            })
            .filter(|hit| backend.is_usable(hit.seq, hit.tokens));
        running.chain(finished).max_by_key(|hit| hit.tokens)
    }
}

/// The tokens that may be reused: the last one is computed in any case, for its logits.
fn reusable(tokens: &[Token]) -> &[Token] {
    tokens.split_last().map_or(&[], |(_, before)| before)
}
