//! Runs the model: the sequences in the slots, their cells in the KV cache, and the
//! finished ones that stay there for the next prompt. Independent of the socket.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_policy::scheduler::{Batch, Kept, MemoryKind, SlotId, Slots, Step, Work};
use hearth_proto::{Event, Failure, FailureKind, GenerateRequest, Limits, RequestId, Reuse};

use super::backend::{Backend, DecodeError, Part};
use super::chat::ChatLayer;
use super::clock;
use super::constraints::Constraints;
use super::keeper::Keeper;
use super::link::Running;
use super::sequence::{ReadyPrompt, Sequence, as_u32};

/// The most tokens that are guessed at once: llama.cpp keeps the logits of as many tokens
/// of a batch as there are sequences, and even one slot has more sequences than this.
const LOOKUP_MAX: u32 = 8;

/// Processes requests, one tick at a time.
#[derive(Debug)]
pub(super) struct Worker<B: Backend> {
    pub(super) backend: B,
    chat: ChatLayer,
    waiting: Vec<GenerateRequest>,
    pub(super) sequences: BTreeMap<SlotId, Sequence<B::Sampler>>,
    constraints: Constraints,
    pub(super) slots: Slots,
    pub(super) kept: Kept,
    pub(super) keeper: Option<Keeper>,
    /// The most tokens that are guessed at once.
    lookup_tokens: u32,
    /// Sequence numbers of the KV cache that are not in use.
    pub(super) free_seqs: Vec<u32>,
    pub(super) batch: Batch,
    parts: Vec<Part>,
    steps: Vec<Step>,
    pub(super) events: Vec<Event>,
}

impl<B: Backend> Worker<B> {
    pub(super) fn new(
        backend: B,
        chat: ChatLayer,
        keeper: Option<Keeper>,
        lookup_tokens: u32,
    ) -> Self {
        let info = backend.info();
        let width = info.slots.max(1);
        let kind = backend.memory();
        let (count, kept_max) = backend.places();
        Self {
            slots: Slots::new(count as usize, width as usize, backend.batch_max()),
            kept: Kept::new(kind, kept_max as usize, info.kv_tokens as usize),
            keeper: keeper.filter(|_| kind.can_share()),
            // Wrong guesses have to be removed again.
            lookup_tokens: lookup_tokens.min(LOOKUP_MAX) * u32::from(kind.can_roll_back()),
            free_seqs: (0..count + kept_max).rev().collect(),
            chat,
            waiting: Vec::new(),
            constraints: Constraints::default(),
            sequences: BTreeMap::new(),
            batch: Batch::default(),
            parts: Vec::new(),
            steps: Vec::new(),
            events: Vec::new(),
            backend,
        }
    }

    /// Enqueues a request; work on it begins with one of the next ticks.
    pub(super) fn submit(&mut self, request: GenerateRequest) {
        self.waiting.push(request);
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sequences.is_empty()
    }

    /// Drops a request without an event; returns whether it was present.
    pub(super) fn cancel(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|request| request.id != id);
        let slot = self.sequences.iter().find(|(_, s)| s.id == id);
        if let Some(slot) = slot.map(|(slot, _)| *slot) {
            self.end(slot, true);
            return true;
        }
        self.waiting.len() < before
    }

    /// Drops this user's finished sequences, or all, and the entries of deleted files.
    pub(super) fn forget(&mut self, uid: Option<u32>) {
        for seq in self.kept.forget(uid) {
            self.free(seq);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.forget();
        }
    }

    /// Releases memory that is only kept for later; where nothing runs, all of it, after
    /// stable prompts are written to disk.
    pub(super) fn shrink(&mut self) {
        let is_idle = self.is_idle();
        if is_idle {
            self.keep_all();
        }
        for seq in self.kept.forget(None) {
            self.free(seq);
        }
        self.constraints = Constraints::default();
        self.backend.shrink(is_idle);
        self.kept
            .set_tokens_max(self.backend.info().kv_tokens as usize);
    }

    /// Whether [`Self::keep_one`] has something to do.
    pub(super) fn has_to_keep(&mut self) -> bool {
        let Some(keeper) = &mut self.keeper else {
            return false;
        };
        keeper.is_writing() || self.kept.has_stable()
    }

    /// Starts writing one stable prompt to disk, unless a write is in progress; for when
    /// there is nothing else to do.
    pub(super) fn keep_one(&mut self) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        if keeper.is_writing() {
            return;
        }
        let Some(stable) = self.kept.take_stable() else {
            return;
        };
        let tokens = as_u32(stable.tokens.len());
        let bytes = u64::from(tokens) * self.backend.info().kv_token_bytes;
        if !keeper.wants(stable.uid, &stable.tokens, bytes) {
            return;
        }
        let Some(seq) = self.free_seqs.last().copied() else {
            return;
        };
        if !self.backend.share(stable.seq, seq, tokens) {
            return;
        }
        let saved = self.backend.save(seq, tokens);
        self.backend.remove(seq, 0);
        // A recurrent state takes more than the keys and values of its tokens.
        let bytes = saved.len() as u64;
        if !saved.is_empty() && keeper.wants(stable.uid, &stable.tokens, bytes) {
            keeper.keep(stable.uid, stable.tokens, saved);
        }
    }

    /// Writes all stable prompts to disk, and waits until they are written.
    pub(super) fn keep_all(&mut self) {
        while self.has_to_keep() {
            self.keep_one();
            if let Some(keeper) = &mut self.keeper {
                keeper.wait();
            }
        }
    }

    /// The events since the last call.
    pub(super) fn events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Plans a tick: starts a waiting request and looks up its prefix. Returns the
    /// request for whose step the tick may be aborted: where that is a prefill, which
    /// comes last, or the only step, no other request loses what it computed.
    pub(super) fn plan(&mut self, now: Duration, limits: &Limits) -> Option<Running> {
        self.begin_next(now);
        self.slots.plan(now, limits, &mut self.batch);
        if self.look_up() {
            self.slots.plan(now, limits, &mut self.batch);
        }
        let steps = self.batch.steps();
        let last = steps.last()?;
        let is_prefill = matches!(last.work, Work::Prefill { .. });
        let can_roll_back = self.backend.memory().can_roll_back();
        if steps.len() > 1 && !(is_prefill && can_roll_back) {
            return None;
        }
        let sequence = self.sequences.get(&last.slot)?;
        let yields = is_prefill && can_roll_back && sequence.reuse != Reuse::Reproducible;
        let class = self.slots.class(now, last.slot);
        Some(Running {
            id: sequence.id,
            yields: class.filter(|_| yields),
        })
    }

    /// Whether the planned tick contains a part of a prompt.
    pub(super) fn plans_prefill(&self) -> bool {
        let is_prefill = |step: &Step| matches!(step.work, Work::Prefill { .. });
        self.batch.steps().iter().any(is_prefill)
    }

    /// Executes the planned tick.
    pub(super) fn tick(&mut self, now: Duration) {
        match self.compute(now) {
            Ok(()) | Err(DecodeError::Aborted) => {}
            Err(error) => self.compute_each(now, &error),
        }
    }

    fn begin_next(&mut self, now: Duration) {
        if self.slots.free() == 0 {
            return;
        }
        let next = (0..self.waiting.len()).min_by_key(|n| self.waiting[*n].priority);
        let Some(next) = next.filter(|n| self.may_begin(self.waiting[*n].reuse)) else {
            return;
        };
        let request = self.waiting.remove(next);
        let id = request.id;
        let mut sequence = match self.begin(&request) {
            Ok(sequence) => sequence,
            Err(failure) => return self.events.push(Event::Failed { id, failure }),
        };
        if let Some(reason) = sequence.ended() {
            sequence.start(0, false, &mut self.events);
            sequence.finish(reason, &mut self.events);
            return;
        }
        if request.reuse != Reuse::Reproducible {
            sequence.set_lookup(self.lookup_tokens);
        }
        let kind = self.backend.memory();
        if kind == MemoryKind::Recurrent {
            // It costs a separate batch: with a sliding window the sequence itself
            // usually suffices.
            sequence.parts_after(sequence.answer_at());
        }
        let is_kept = self.keeper.is_some() || kind.needs_checkpoints();
        if is_kept && request.reuse == Reuse::Allowed {
            sequence.find_stable(&self.backend, &self.chat, &request);
        }
        let known = as_u32(sequence.tokens().len());
        let least = self.keeper.as_ref().map_or(0, Keeper::min_tokens);
        if request.prewarm && known < least {
            log::warn!(
                "a prewarmed prompt of {known} tokens is kept in memory only: on disk they have \
                 at least {least} (`cache.min_tokens`)"
            );
        }
        let slot = self.slots.take(now, request.priority, known, 0);
        // There is a free slot, so there is a free sequence number: see `new`.
        if let (Some(slot), Some(seq)) = (slot, self.free_seqs.pop()) {
            sequence.seq = seq;
            self.sequences.insert(slot, sequence);
            if request.reuse == Reuse::Reproducible {
                self.slots.set_alone(slot);
                self.empty();
            }
        }
    }

    fn begin(&mut self, request: &GenerateRequest) -> Result<Sequence<B::Sampler>, Failure> {
        let prompt = ReadyPrompt::new(&self.backend, &self.chat, request)?;
        let chat = prompt.chat.as_ref();
        let matcher = self
            .constraints
            .matcher(&self.backend, &self.chat, request, chat)?;
        Sequence::begin(&self.backend, prompt, request, matcher)
    }

    /// A reproducible request uses the KV cache alone.
    fn may_begin(&self, reuse: Reuse) -> bool {
        let mut running = self.sequences.values();
        match reuse {
            Reuse::Reproducible => self.sequences.is_empty(),
            _ => running.all(|sequence| sequence.reuse != Reuse::Reproducible),
        }
    }

    /// Clears the KV cache.
    fn empty(&mut self) {
        self.free_seqs.extend(self.kept.forget(None));
        self.backend.clear();
    }

    /// Decodes the planned batch, makes room in the KV cache where necessary, and chooses
    /// tokens.
    fn compute(&mut self, now: Duration) -> Result<(), DecodeError> {
        let began = clock::now();
        let mut may_guess = true;
        let guessed = loop {
            self.parts.clear();
            for step in self.batch.steps() {
                if let Some(sequence) = self.sequences.get(&step.slot) {
                    sequence.fill(step.work, &mut self.parts);
                }
            }
            if self.parts.is_empty() {
                return Ok(());
            }
            let guessed = if may_guess { self.guess() } else { 0 };
            match self.backend.decode(&self.parts) {
                Ok(()) => break guessed,
                // Nothing that was computed is evicted for a guess.
                Err(DecodeError::NoRoom) if guessed > 0 => may_guess = false,
                Err(DecodeError::NoRoom) if self.make_room(now) => {}
                Err(error) => {
                    self.take_back();
                    return Err(error);
                }
            }
        };
        let ms = clock::ms_since(began);
        self.steps.clear();
        self.steps.extend(self.batch.steps());
        let mut part = 0;
        for at in 0..self.steps.len() {
            let step = self.steps[at];
            part += step.work.tokens() as usize;
            self.advance(now, step, part - 1, ms);
            if guessed > 0 {
                self.check_guess(now, step, part);
            }
        }
        Ok(())
    }

    /// Adds guessed tokens to the batch of a sequence that decodes alone: with others the
    /// batch is efficient without guesses.
    fn guess(&mut self) -> usize {
        let [
            Step {
                slot,
                work: Work::Decode { .. },
            },
        ] = self.batch.steps()
        else {
            return 0;
        };
        let sequence = self.sequences.get_mut(slot);
        sequence.map_or(0, |sequence| sequence.guess(&mut self.parts))
    }

    /// Accepts the guessed parts of the batch, which begin at index `first`, as long as
    /// the chosen token is the guessed one; removes the others.
    fn check_guess(&mut self, now: Duration, step: Step, first: usize) {
        let (slot, (_, begin)) = (step.slot, step.work.range());
        let mut at = begin;
        for part in first..self.parts.len() {
            let sequence = self.sequences.get(&slot);
            let chosen = sequence.and_then(|s| s.tokens().get(at as usize..));
            if chosen != Some(&[self.parts[part].token]) {
                break;
            }
            let work = Work::Decode {
                from: at,
                to: at + 1,
            };
            at += 1;
            self.advance(now, Step { slot, work }, part, 0.0);
        }
        // If the sequence has ended meanwhile, they were already removed.
        if let Some(sequence) = self.sequences.get_mut(&slot) {
            sequence.guessed(self.parts.len() - first, (at - begin) as usize);
            self.backend.remove(sequence.seq, at);
        }
    }

    /// After a failed batch: computes its steps one by one, so that only the one at fault
    /// fails.
    fn compute_each(&mut self, now: Duration, error: &DecodeError) {
        let steps = self.batch.steps().to_vec();
        let alone = steps.len() == 1;
        if !alone && !self.backend.memory().can_roll_back() {
            // All of them start again; only the one at fault fails a second time.
            for step in &steps {
                self.slots.set_alone(step.slot);
            }
            return;
        }
        for step in steps {
            self.batch.set_only(step);
            let error = if alone {
                error.clone()
            } else {
                match self.compute(now) {
                    Ok(()) | Err(DecodeError::Aborted) => continue,
                    Err(error) => error,
                }
            };
            let message = format!("{error}; try again");
            self.fail(step.slot, Failure::new(FailureKind::Internal, message));
        }
    }

    /// Records a decoded step, and chooses the next token where the step samples.
    fn advance(&mut self, now: Duration, step: Step, part: usize, ms: f64) {
        self.slots.apply(now, step);
        let Some(sequence) = self.sequences.get_mut(&step.slot) else {
            return;
        };
        sequence.decoded(step.work, ms, &mut self.events);
        if let Work::Prefill { to, .. } = step.work {
            self.checkpoint(step.slot, to);
        }
        if !step.work.samples() {
            return;
        }
        let Some(sequence) = self.sequences.get_mut(&step.slot) else {
            return;
        };
        let known = sequence.tokens().len();
        match sequence.choose(&mut self.backend, part, &mut self.events) {
            Ok(None) => {
                let more = as_u32(sequence.tokens().len() - known);
                self.slots.extend(step.slot, more);
            }
            Ok(Some(reason)) => {
                sequence.finish(reason, &mut self.events);
                self.end(step.slot, true);
            }
            Err(failure) => self.fail(step.slot, failure),
        }
    }

    /// Frees cells of the KV cache: those of the least recently used finished sequence,
    /// else of the running one that is last in turn, which starts again later.
    fn make_room(&mut self, now: Duration) -> bool {
        if let Some(seq) = self.kept.evict() {
            self.free(seq);
            return true;
        }
        let mut holders = self.slots.in_turn(now);
        holders.retain(|slot| self.slots.done(*slot) > 0 || self.batch.has(*slot));
        let [first, .., last] = holders[..] else {
            return false;
        };
        debug_assert_ne!(first, last);
        if let Some(sequence) = self.sequences.get(&last) {
            self.backend.remove(sequence.seq, 0);
        }
        self.slots.park(last);
        self.batch.drop_slot(last);
        true
    }

    /// Removes what a failed batch may have left in the KV cache; a sequence that cannot
    /// be rolled back starts again.
    fn take_back(&mut self) {
        let can_roll_back = self.backend.memory().can_roll_back();
        for step in self.batch.steps() {
            let Some(sequence) = self.sequences.get(&step.slot) else {
                continue;
            };
            let from = step.work.range().0;
            if !can_roll_back || !self.backend.remove(sequence.seq, from) {
                self.backend.remove(sequence.seq, 0);
                self.slots.restart(step.slot);
            }
        }
    }

    fn fail(&mut self, slot: SlotId, failure: Failure) {
        if let Some(sequence) = self.sequences.get(&slot) {
            let id = sequence.id;
            self.events.push(Event::Failed { id, failure });
        }
        self.end(slot, false);
    }

    /// Frees a slot; what it computed is kept for the next prompt where it is usable.
    fn end(&mut self, slot: SlotId, keep: bool) {
        let done = self.slots.done(slot) as usize;
        self.slots.release(slot);
        let Some(sequence) = self.sequences.remove(&slot) else {
            return;
        };
        let seq = sequence.seq;
        // Guessed tokens may follow it.
        self.backend.remove(seq, as_u32(done));
        let keep = keep && sequence.reuse == Reuse::Allowed;
        if !keep || !self.backend.is_usable(seq, as_u32(done)) {
            return self.free(seq);
        }
        let tokens = sequence.tokens().get(..done).unwrap_or_default().to_vec();
        self.keep(seq, sequence.uid, tokens, &sequence.lengths());
    }

    pub(super) fn free(&mut self, seq: u32) {
        self.backend.remove(seq, 0);
        self.free_seqs.push(seq);
    }
}
