//! One tick: plans a batch (running answers first, then a part of a prompt within the time
//! that the limits allow), decodes it, and chooses the next tokens.

use std::time::Duration;

use hearth_policy::scheduler::{Step, Work};
use hearth_proto::{Failure, FailureKind, Limits, Reuse};

use super::as_u32;
use super::backend::{Backend, DecodeError};
use super::clock;
use super::link::Running;
use super::worker::Worker;

impl<B: Backend> Worker<B> {
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
        self.slots.begin(&self.batch);
        let media = self.take_media_step();
        match self.compute(now) {
            Ok(()) | Err(DecodeError::Aborted) => {}
            Err(error) => self.compute_each(now, &error),
        }
        if let Some(step) = media {
            self.compute_media(now, step);
        }
    }

    /// Decodes the planned batch and chooses tokens.
    fn compute(&mut self, now: Duration) -> Result<(), DecodeError> {
        let began = clock::now();
        let Some(drafted) = self.decode(now)? else {
            return Ok(());
        };
        let ms = clock::ms_since(began);
        self.steps.clear();
        self.steps.extend(self.batch.steps());
        let mut part = 0;
        for at in 0..self.steps.len() {
            let step = self.steps[at];
            part += step.work.tokens() as usize;
            self.advance(now, step, part - 1, ms);
            if drafted > 0 {
                self.verify_draft(now, step, part);
            }
        }
        Ok(())
    }

    /// Decodes the planned batch, and makes room in the KV cache where necessary. Returns how
    /// many drafted tokens it contains; `None` where nothing is left of it.
    fn decode(&mut self, now: Duration) -> Result<Option<usize>, DecodeError> {
        let mut may_draft = true;
        loop {
            self.parts.clear();
            for step in self.batch.steps() {
                if let Some(sequence) = self.sequences.get(&step.slot) {
                    sequence.fill(step.work, &mut self.parts);
                }
            }
            if self.parts.is_empty() {
                return Ok(None);
            }
            self.apply_adapters();
            let drafted = if may_draft { self.draft() } else { 0 };
            match self.backend.decode(&self.parts) {
                Ok(()) => return Ok(Some(drafted)),
                // Nothing that was computed is evicted for a draft.
                Err(DecodeError::NoRoom) if drafted > 0 => may_draft = false,
                Err(DecodeError::NoRoom) if self.make_room(now) => {}
                Err(error) => {
                    self.take_back();
                    return Err(error);
                }
            }
        }
    }

    /// Applies the adapters of the batch: all its sequences have the same.
    pub(super) fn apply_adapters(&mut self) {
        let first = self.batch.steps().first();
        if let Some(sequence) = first.and_then(|step| self.sequences.get(&step.slot)) {
            self.backend.apply_adapters(sequence.adapters.scales());
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
    pub(super) fn advance(&mut self, now: Duration, step: Step, part: usize, ms: f64) {
        self.slots.apply(now, step);
        let Some(sequence) = self.sequences.get_mut(&step.slot) else {
            return;
        };
        let first = (part + 1).saturating_sub(step.work.tokens() as usize);
        sequence.decoded(&self.backend, (step.work, first), ms, &mut self.events);
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
    pub(super) fn make_room(&mut self, now: Duration) -> bool {
        if self.cache.evict(&mut self.backend) {
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
    pub(super) fn take_back(&mut self) {
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
}
