//! Prefix reuse: looks up the prefix of a prompt among running sequences, finished ones
//! in memory and the disk cache; and creates the checkpoints for it.
//!
//! A match is compared token by token, and the positions that are really in memory are
//! checked before it is used: see [`MemoryKind`](hearth_policy::scheduler::MemoryKind).

use hearth_policy::scheduler::{Hit, Lengths, SlotId};
use hearth_proto::{FinishReason, Reuse};

use super::backend::{Backend, Token};
use super::sequence::as_u32;
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
            return false;
        }
        if self.is_warm(slot) {
            self.batch.drop_slot(slot);
            return false;
        }
        let mut hit = self.find(slot);
        let known = hit.map_or(0, |hit| hit.tokens);
        let kept = self.kept.len();
        let restored = self.restore(slot, known);
        if restored.is_none() && self.kept.len() < kept {
            // The sequence that was found may have been evicted by the failed restore.
            hit = self.find(slot);
        }
        let found = restored.unwrap_or_else(|| hit.map_or(0, |hit| self.share(slot, hit)));
        let found = self.slots.set_cached(slot, found);
        if let Some(sequence) = self.sequences.get_mut(&slot) {
            sequence.start(found, restored.is_some(), &mut self.events);
            if restored.is_some() {
                sequence.parts_after(found as usize);
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
            sequence.recurs(hit.tokens);
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
        let parts_after = self
            .kept
            .parts_after(sequence.uid, search(sequence.tokens()));
        let near = parts_after.saturating_sub(NEAR)..=parts_after;
        let mut known = sequence.lengths().boundaries;
        known.extend(self.kept.forks(sequence.uid, sequence.tokens()));
        if parts_after > 0 && !known.iter().any(|boundary| near.contains(boundary)) {
            sequence.recurs(as_u32(parts_after));
            sequence.parts_after(parts_after);
        }
        let boundaries = sequence.lengths().boundaries;
        let stops = boundaries.into_iter().map(as_u32).collect();
        self.slots.stop_at(slot, stops);
    }

    /// Keeps a checkpoint of a sequence that now ends at one of its boundaries.
    pub(super) fn checkpoint(&mut self, slot: SlotId, tokens: u32) {
        if !self.backend.memory().needs_checkpoints() {
            return;
        }
        let Some(sequence) = self.sequences.get(&slot) else {
            return;
        };
        let lengths = sequence.lengths();
        let (seq, uid) = (sequence.seq, sequence.uid);
        let kept = sequence.tokens().get(..tokens as usize).unwrap_or_default();
        if sequence.reuse != Reuse::Allowed
            || !lengths.boundaries.contains(&(tokens as usize))
            || self.kept.has(uid, kept)
        {
            return;
        }
        let kept = kept.to_vec();
        let Some(spare) = self.spare_seq() else {
            return;
        };
        if self.backend.share(seq, spare, tokens) {
            self.keep(spare, uid, kept, &lengths);
        } else {
            self.free(spare);
        }
    }

    /// Keeps a sequence in the prefix cache, and frees those that are no longer needed.
    pub(super) fn keep(&mut self, seq: u32, uid: Option<u32>, tokens: Vec<i32>, lengths: &Lengths) {
        for seq in self.kept.insert(seq, uid, tokens, lengths) {
            self.free(seq);
        }
    }

    fn spare_seq(&mut self) -> Option<u32> {
        if self.free_seqs.is_empty()
            && let Some(oldest) = self.kept.evict()
        {
            self.free(oldest);
        }
        self.free_seqs.pop()
    }

    /// Ends a prewarm request whose whole prompt is cached: where a sequence cannot be
    /// cut, none of its tokens can be computed again.
    fn is_warm(&mut self, slot: SlotId) -> bool {
        let Some(sequence) = self.sequences.get(&slot) else {
            return false;
        };
        if !sequence.is_prewarm() || !self.backend.memory().needs_checkpoints() {
            return false;
        }
        let (uid, seq) = (sequence.uid, sequence.seq);
        let tokens = sequence.tokens().to_vec();
        let count = as_u32(tokens.len());
        let backend = &self.backend;
        let hit = self.kept.find(uid, &tokens, tokens.len(), |seq, n| {
            backend.is_usable(seq, n)
        });
        let is_kept = hit.is_some_and(|hit| hit.tokens == count);
        let from_disk = !is_kept && self.restore_tokens(slot, &tokens, count - 1) == Some(count);
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
            self.keep(seq, uid, tokens, &lengths);
        } else {
            self.free(seq);
        }
        true
    }

    /// Restores the prefix of a sequence from disk where more than `known` tokens of it
    /// are cached; returns how many.
    fn restore(&mut self, slot: SlotId, known: u32) -> Option<u32> {
        self.keeper.as_ref()?;
        let tokens = search(self.sequences.get(&slot)?.tokens()).to_vec();
        self.restore_tokens(slot, &tokens, known)
    }

    fn restore_tokens(&mut self, slot: SlotId, prompt: &[Token], known: u32) -> Option<u32> {
        let keeper = self.keeper.as_mut()?;
        let sequence = self.sequences.get(&slot)?;
        let kind = self.backend.memory();
        let usable = |saved, tokens| kind.is_usable_saved(saved, tokens);
        let found = keeper.find(sequence.uid, prompt, known, usable)?;
        let (saved, tokens) = keeper.read(&found)?;
        let seq = sequence.seq;
        while !self.backend.restore(seq, &saved, tokens) {
            // There is no room, or the data are invalid. With nothing else in the cache,
            // the data are invalid.
            if let Some(oldest) = self.kept.evict() {
                self.free(oldest);
            } else {
                if self.sequences.len() == 1
                    && let Some(keeper) = &mut self.keeper
                {
                    keeper.reject(&found);
                }
                return None;
            }
        }
        if self.backend.remove(seq, found.tokens) && self.backend.is_usable(seq, found.tokens) {
            return Some(found.tokens);
        }
        self.backend.remove(seq, 0);
        None
    }

    /// The longest usable prefix of a sequence that another one has, running or finished.
    fn find(&mut self, slot: SlotId) -> Option<Hit> {
        let sequence = self.sequences.get(&slot)?;
        let tokens = sequence.tokens();
        let prompt = search(tokens);
        let backend = &self.backend;
        let is_usable = |seq, tokens| backend.is_usable(seq, tokens);
        let kept = self
            .kept
            .find(sequence.uid, tokens, prompt.len(), is_usable);
        let running = self
            .sequences
            .iter()
            .filter(|(other, running)| **other != slot && running.uid == sequence.uid)
            .map(|(other, running)| {
                let done = self.slots.done(*other) as usize;
                let shared = running.tokens().iter().take(done).zip(prompt);
                let tokens = shared.take_while(|(a, b)| a == b).count();
                Hit {
                    seq: running.seq,
                    tokens: as_u32(tokens),
                    diverges: false,
                }
            })
            .filter(|hit| is_usable(hit.seq, hit.tokens));
        running.chain(kept).max_by_key(|hit| hit.tokens)
    }
}

/// The tokens that may be reused: the last one is computed in any case, for its logits.
fn search(tokens: &[Token]) -> &[Token] {
    tokens.split_last().map_or(&[], |(_, before)| before)
}
