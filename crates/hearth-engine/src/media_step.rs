//! Steps of a prompt that are pictures or sounds: encoded in one tick, decoded in the next
//! ones, so that running answers go on in between.

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::scheduler::{SlotId, Step, Work};
use hearth_proto::{Failure, FailureKind};

use super::backend::{Backend, DecodeError, EmbeddedPart};
use super::clock;
use super::llama::no_projector;
use super::pieces::{Embeddings, Placed};
use super::worker::Worker;

impl<B: Backend> Worker<B> {
    /// Takes the step out of the planned batch that begins in a picture or sound: its tokens
    /// have embeddings instead of ids, and llama.cpp takes one or the other in a batch.
    pub(super) fn take_media_step(&mut self) -> Option<Step> {
        let step = self.batch.steps().last().copied()?;
        let Work::Prefill { from, .. } = step.work else {
            return None;
        };
        self.sequences.get(&step.slot)?.pieces.containing(from)?;
        self.batch.drop_slot(step.slot);
        Some(step)
    }

    /// Encodes or decodes a picture or sound.
    pub(super) fn compute_media(&mut self, now: Duration, step: Step) {
        let began = clock::now();
        let (from, to) = step.work.range();
        let Some(sequence) = self.sequences.get(&step.slot) else {
            return;
        };
        // The other steps of the tick may have taken its cells.
        if self.slots.done(step.slot) != from {
            return;
        }
        let Some(placed) = sequence.pieces.containing(from).cloned() else {
            return;
        };
        let known = sequence.pieces.ready(placed.at);
        let known = known.or_else(|| self.embeddings.get(sequence.uid, &placed));
        let Some(embeddings) = known else {
            self.encode(step.slot, &placed);
            self.add_prefill_ms(step.slot, clock::ms_since(began));
            return;
        };
        if !placed.can_split() && from != placed.at {
            // Equal placeholders of another picture: too rare for more than a new start.
            self.restart(step.slot);
            return;
        }
        let to = if placed.can_split() { to } else { placed.end() };
        let work = Work::Prefill {
            from,
            to,
            last: false,
        };
        let step = Step { work, ..step };
        match self.decode_media(now, step, &placed, &embeddings) {
            Ok(true) => {
                if to == placed.end()
                    && let Some(sequence) = self.sequences.get_mut(&step.slot)
                {
                    sequence.pieces.clear_ready();
                }
                self.advance(now, step, 0, clock::ms_since(began));
            }
            Ok(false) | Err(DecodeError::Aborted) => {}
            Err(error) => {
                let failure = Failure::new(FailureKind::Internal, format!("{error}; try again"));
                self.fail(step.slot, failure);
            }
        }
    }

    fn encode(&mut self, slot: SlotId, placed: &Placed) {
        let encoded = match self.backend.media() {
            Some(media) => media.encode(&placed.medium, placed.index),
            None => Err(no_projector()),
        };
        match encoded {
            Ok(embeddings) => {
                let embeddings: Embeddings = embeddings.into();
                if let Some(sequence) = self.sequences.get_mut(&slot) {
                    let uid = sequence.uid;
                    sequence
                        .pieces
                        .set_ready(placed.at, Arc::clone(&embeddings));
                    self.embeddings.insert(uid, placed, embeddings);
                }
            }
            // It is cancelled, or goes on after a request of a higher class.
            Err(failure) if failure.kind == FailureKind::Cancelled => {}
            Err(failure) => self.fail(slot, failure),
        }
    }

    /// Decodes the tokens of a step; `false` where the step was dropped for lack of room.
    fn decode_media(
        &mut self,
        now: Duration,
        step: Step,
        placed: &Placed,
        embeddings: &Embeddings,
    ) -> Result<bool, DecodeError> {
        self.batch.set_only(step);
        self.apply_adapters();
        let (from, to) = step.work.range();
        let range = if placed.can_split() {
            (from - placed.at, to - placed.at)
        } else {
            (0, placed.piece.tokens)
        };
        loop {
            let Some(seq) = self.sequences.get(&step.slot).map(|s| s.seq) else {
                return Ok(false);
            };
            let part = EmbeddedPart {
                piece: &placed.piece,
                embeddings,
                at: placed.at,
                range,
                seq,
            };
            let decoded = match self.backend.media() {
                Some(media) => media.decode_part(&part),
                None => Err(DecodeError::Code(-1)),
            };
            match decoded {
                Ok(()) => return Ok(true),
                Err(DecodeError::NoRoom) => {
                    // What an earlier batch of the same part has left.
                    self.take_back();
                    if !self.make_room(now) {
                        return Err(DecodeError::NoRoom);
                    }
                    if !self.batch.has(step.slot) {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    self.take_back();
                    return Err(error);
                }
            }
        }
    }

    /// Computes a sequence from its first token again.
    fn restart(&mut self, slot: SlotId) {
        if let Some(sequence) = self.sequences.get(&slot) {
            self.backend.remove(sequence.seq, 0);
        }
        self.slots.restart(slot);
    }

    fn add_prefill_ms(&mut self, slot: SlotId, ms: f64) {
        if let Some(sequence) = self.sequences.get_mut(&slot) {
            sequence.add_prefill_ms(ms);
        }
    }
}
