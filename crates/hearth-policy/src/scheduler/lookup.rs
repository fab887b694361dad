//! Prompt-lookup decoding: for answers that repeat the prompt (an edited text, a summary)
//! tokens are drafted from earlier text, and several are verified in one batch. The drafts
//! do not affect which tokens are chosen, only the number of batches (Saxena, "Prompt
//! Lookup Decoding", 2023).

use super::DraftBackoff;

/// Tokens that must match before the tokens that followed them are drafted. With fewer
/// there are too many accidental matches.
const ALIKE: usize = 3;
/// Drafts for one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    most: usize,
    backoff: DraftBackoff,
}

impl Lookup {
    /// Drafts of at most `most` tokens; 0 disables them.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            backoff: DraftBackoff::default(),
        }
    }

    /// A draft of the tokens after `tokens`: those that followed the last earlier occurrence
    /// of their end.
    pub fn draft<'a>(&mut self, tokens: &'a [i32]) -> &'a [i32] {
        if self.most == 0 {
            return &[];
        }
        if self.backoff.waits() {
            return &[];
        }
        let Some(before) = tokens.len().checked_sub(ALIKE) else {
            return &[];
        };
        let (earlier, end) = tokens.split_at(before);
        let last = |places: usize| {
            let mut windows = tokens.windows(ALIKE).take(places);
            windows.rposition(|window| window == end)
        };
        // Preferably an occurrence with `most` tokens after it: one at the end of a
        // repetition gives a shorter draft.
        let full = earlier.len().saturating_sub(self.most - 1);
        let Some(at) = last(full).or_else(|| last(earlier.len())) else {
            return &[];
        };
        let follows = &tokens[at + ALIKE..];
        &follows[..follows.len().min(self.most)]
    }

    /// Records how many of the drafted tokens were accepted.
    pub fn record(&mut self, drafted: usize, accepted: usize) {
        self.backoff.record(drafted, accepted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tokens_after_the_last_occurrence_are_drafted() {
        let tokens = [1, 2, 3, 4, 5, 9, 1, 2, 3, 7, 8, 1, 2, 3];
        assert_eq!(Lookup::new(4).draft(&tokens), [7, 8, 1, 2]);
        assert_eq!(Lookup::new(1).draft(&tokens), [7]);
        assert_eq!(Lookup::new(0).draft(&tokens), [0; 0]);
        assert_eq!(Lookup::new(4).draft(&tokens[..8]), [0; 0]);
        assert_eq!(Lookup::new(4).draft(&[1, 2]), [0; 0]);
        // The end may overlap the text that it repeats.
        assert_eq!(Lookup::new(4).draft(&[5, 5, 5, 5]), [5]);
        assert_eq!(Lookup::new(4).draft(&[5; 9]), [5; 4]);
    }

    #[test]
    fn rejected_drafts_delay_the_next_ones() {
        let tokens = [1, 2, 3, 4, 1, 2, 3];
        let mut lookup = Lookup::new(4);
        let drafts = (0..500)
            .filter(|_| {
                let drafted = lookup.draft(&tokens).len();
                if drafted > 0 {
                    lookup.record(drafted, 0);
                }
                drafted > 0
            })
            .count();
        assert!((8..=16).contains(&drafts), "{drafts}");
        while lookup.draft(&tokens).is_empty() {}
        lookup.record(4, 2);
        assert!(!lookup.draft(&tokens).is_empty());
    }

    proptest! {
        /// A draft is a part of the text, directly after an occurrence of the text's end.
        #[test]
        fn a_draft_occurs_in_the_text(tokens in prop::collection::vec(0..4, 0..60), most in 0usize..9) {
            let draft = Lookup::new(most).draft(&tokens);
            prop_assert!(draft.len() <= most);
            if !draft.is_empty() {
                let end = &tokens[tokens.len() - ALIKE..];
                let whole: Vec<i32> = end.iter().chain(draft).copied().collect();
                prop_assert!(tokens.windows(whole.len()).any(|w| w == whole));
            }
        }
    }
}
