//! Prompt-lookup decoding: answers that repeat the prompt (an edited text, a summary)
//! are guessed from what stands there already, and several tokens are checked in one
//! batch. What is chosen does not depend on the guesses, only how many batches it takes
//! (Saxena, "Prompt Lookup Decoding", 2023).

/// Tokens that must be alike before what followed them is guessed again. Fewer find
/// too much by chance.
const ALIKE: usize = 3;
/// Longest pause after guesses that did not hold, in tokens.
const PAUSE_MAX: u32 = 64;

/// Guesses for one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    most: usize,
    /// Tokens to wait before the next guess.
    pause: u32,
    /// The pause after the next guess that does not hold.
    next_pause: u32,
}

impl Lookup {
    /// Guesses of at most `most` tokens; 0 never guesses.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            pause: 0,
            next_pause: 1,
        }
    }

    /// What may come after `tokens`: what came where their end stood last.
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
        // Where enough follows, if anywhere: the end of a repetition is no guess.
        let full = earlier.len().saturating_sub(self.most - 1);
        let Some(at) = last(full).or_else(|| last(earlier.len())) else {
            return &[];
        };
        let follows = &tokens[at + ALIKE..];
        &follows[..follows.len().min(self.most)]
    }

    /// Notes how many of the guessed tokens held: where it were fewer than half, the
    /// batch cost more than it gave, and the next guess waits.
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
        // The end may overlap what it repeats.
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
        /// A guess is a part of the text, right after the text's own end.
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
