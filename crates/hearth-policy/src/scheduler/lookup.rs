//! Prompt-lookup decoding: for answers that repeat the prompt (an edited text, a summary)
//! tokens are drafted from earlier text, and several are verified in one batch. The drafts
//! do not affect which tokens are chosen, only the number of batches (Saxena, "Prompt
//! Lookup Decoding", 2023).

/// Tokens that must match before the tokens that followed them are drafted. With fewer
/// there are too many accidental matches.
const ALIKE: usize = 3;
/// Longest pause after rejected drafts, in tokens.
const PAUSE_MAX: u32 = 64;

/// Drafts for one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    most: usize,
    /// Tokens to wait before the next draft.
    pause: u32,
    /// The pause after the next rejected draft.
    next_pause: u32,
}

impl Lookup {
    /// Drafts of at most `most` tokens; 0 disables them.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            pause: 0,
            next_pause: 1,
        }
    }

    /// A draft of the tokens after `tokens`: those that followed the last earlier occurrence
    /// of their end.
    pub fn guess<'a>(&mut self, tokens: &'a [i32]) -> &'a [i32] {
        if self.most == 0 {
            return &[];
        }
        if self.pause > 0 {
            self.pause -= 1;
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

    /// Records how many of the drafted tokens were accepted: if fewer than half, the batch
    /// cost more than it gained, and the next draft is delayed.
    pub fn checked(&mut self, guessed: usize, held: usize) {
        if held * 2 >= guessed {
            self.next_pause = 1;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_followed_last_is_guessed() {
        let tokens = [1, 2, 3, 4, 5, 9, 1, 2, 3, 7, 8, 1, 2, 3];
        assert_eq!(Lookup::new(4).guess(&tokens), [7, 8, 1, 2]);
        assert_eq!(Lookup::new(1).guess(&tokens), [7]);
        assert_eq!(Lookup::new(0).guess(&tokens), [0; 0]);
        assert_eq!(Lookup::new(4).guess(&tokens[..8]), [0; 0]);
        assert_eq!(Lookup::new(4).guess(&[1, 2]), [0; 0]);
        // The end may overlap the text that it repeats.
        assert_eq!(Lookup::new(4).guess(&[5, 5, 5, 5]), [5]);
        assert_eq!(Lookup::new(4).guess(&[5; 9]), [5; 4]);
    }

    #[test]
    fn guesses_that_do_not_hold_become_rare() {
        let tokens = [1, 2, 3, 4, 1, 2, 3];
        let mut lookup = Lookup::new(4);
        let guesses = (0..500)
            .filter(|_| {
                let guessed = lookup.guess(&tokens).len();
                if guessed > 0 {
                    lookup.checked(guessed, 0);
                }
                guessed > 0
            })
            .count();
        assert!((8..=16).contains(&guesses), "{guesses}");
        while lookup.guess(&tokens).is_empty() {}
        lookup.checked(4, 2);
        assert!(!lookup.guess(&tokens).is_empty());
    }

    proptest! {
        /// A draft is a part of the text, directly after an occurrence of the text's end.
        #[test]
        fn a_guess_stands_in_the_text(tokens in prop::collection::vec(0..4, 0..60), most in 0usize..9) {
            let guess = Lookup::new(most).guess(&tokens);
            prop_assert!(guess.len() <= most);
            if !guess.is_empty() {
                let end = &tokens[tokens.len() - ALIKE..];
                let whole: Vec<i32> = end.iter().chain(guess).copied().collect();
                prop_assert!(tokens.windows(whole.len()).any(|w| w == whole));
            }
        }
    }
}
