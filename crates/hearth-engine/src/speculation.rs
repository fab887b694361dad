//! Speculation: tokens that an answer probably repeats from earlier text, or that a draft model
//! expects, are verified in one batch. The drafts do not affect which tokens are chosen.

use std::time::Duration;

use hearth_policy::scheduler::{Step, Work};

use super::backend::Backend;
use super::worker::Worker;

impl<B: Backend> Worker<B> {
    /// Adds drafted tokens to the batch of a sequence that decodes alone, and returns how
    /// many: with others the batch is efficient without drafts.
    pub(super) fn draft(&mut self) -> usize {
        let [
            Step {
                slot,
                work: Work::Decode { .. },
            },
        ] = self.batch.steps()
        else {
            return 0;
        };
        let Some(sequence) = self.sequences.get_mut(slot) else {
            return 0;
        };
        let repeated = sequence.draft(&mut self.parts);
        if repeated > 0 {
            return repeated;
        }
        let most = sequence.draft_model_max();
        if most == 0 {
            return 0;
        }
        let expected = self.backend.draft(sequence.tokens(), most);
        sequence.add_draft(&expected, &mut self.parts)
    }

    /// Accepts the drafted parts of the batch, which begin at index `first`, as long as
    /// the chosen token is the drafted one; removes the others.
    pub(super) fn verify_draft(&mut self, now: Duration, step: Step, first: usize) {
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
            sequence.record_draft(self.parts.len() - first, (at - begin) as usize);
            self.backend.remove(sequence.seq, at);
        }
    }
}
