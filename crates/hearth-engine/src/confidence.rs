//! The model's confidence in a call: in its choices where a constraint allowed several
//! tokens.

use hearth_proto::Confidence;

use super::backend::Token;

/// One choice among the tokens that a constraint allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Probability of the chosen token among them, before temperature and filters.
    pub probability: f32,
    /// The likeliest of them with their probabilities, likeliest first.
    pub likeliest: Vec<(Token, f32)>,
}

/// Where more tokens than this are allowed, the text is free, and its tokens do not count
/// as choices.
const ALLOWED_MAX: usize = 1024;
/// Tokens reported for a choice.
const LIKELIEST: usize = 3;

impl Choice {
    /// The choice of `token` from masked logits; `None` where the text is free.
    pub fn of(masked: &[f32], token: Token) -> Option<Self> {
        let allowed = || {
            (0..)
                .zip(masked.iter().copied())
                .filter(|(_, l)| l.is_finite())
        };
        let allowed: Vec<(Token, f32)> = allowed().take(ALLOWED_MAX + 1).collect();
        if allowed.len() > ALLOWED_MAX {
            return None;
        }
        let most = allowed
            .iter()
            .map(|(_, l)| *l)
            .fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = allowed.iter().map(|(_, l)| (l - most).exp()).sum();
        let mut likeliest = allowed;
        for (_, logit) in &mut likeliest {
            *logit = (*logit - most).exp() / sum;
        }
        let probability = likeliest.iter().find(|(id, _)| *id == token)?.1;
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1));
        likeliest.truncate(LIKELIEST);
        Some(Self {
            probability,
            likeliest,
        })
    }
}

/// Tracks the choices of one call.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    text: Vec<u8>,
    log_probability: f32,
    least: Option<Confidence>,
}

impl Tracker {
    /// Records a choice that was made after the text so far.
    pub(super) fn chose(&mut self, choice: &Choice, piece: impl Fn(Token) -> Vec<u8>) {
        self.log_probability += choice.probability.ln();
        let least = self.least.as_ref().map_or(1.0, |least| least.probability);
        if choice.probability >= least {
            return;
        }
        let named = |(token, probability): &(Token, f32)| {
            let text = String::from_utf8_lossy(&piece(*token)).into_owned();
            (text, *probability)
        };
        self.least = Some(Confidence {
            probability: choice.probability,
            before: String::from_utf8_lossy(&self.text).into_owned(),
            choices: choice.likeliest.iter().map(named).collect(),
        });
    }

    /// Records text of the answer.
    pub(super) fn wrote(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Returns the confidence in the call that ends here, and resets for the next one.
    pub(super) fn take(&mut self) -> Confidence {
        let done = std::mem::take(self);
        let least = done.least.unwrap_or(Confidence {
            probability: 1.0,
            before: String::new(),
            choices: Vec::new(),
        });
        Confidence {
            probability: done.log_probability.exp(),
            ..least
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    #[test]
    fn probabilities_are_those_among_what_is_allowed() {
        let two = [OUT, 0.0, OUT, 3.0_f32.ln()];
        let choice = Choice::of(&two, 3).unwrap();
        assert!((choice.probability - 0.75).abs() < 1e-6);
        let ids: Vec<Token> = choice.likeliest.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [3, 1]);
        assert_eq!(Choice::of(&two, 0), None);
        assert_eq!(Choice::of(&vec![0.0; ALLOWED_MAX + 1], 0), None);
    }

    #[test]
    fn the_least_certain_choice_is_shown() {
        let mut tracker = Tracker::default();
        let choice = |p: f32| Choice {
            probability: p,
            likeliest: vec![(1, p), (2, 1.0 - p)],
        };
        let piece = |token: Token| vec![b'a' + u8::try_from(token).unwrap()];
        tracker.wrote(b"x");
        tracker.chose(&choice(0.9), piece);
        tracker.wrote(b"y");
        tracker.chose(&choice(0.5), piece);
        tracker.chose(&choice(0.8), piece);
        let confidence = tracker.take();
        assert!((confidence.probability - 0.36).abs() < 1e-6);
        assert_eq!(confidence.before, "xy");
        assert_eq!(confidence.choices, [("b".into(), 0.5), ("c".into(), 0.5)]);
        assert!((tracker.take().probability - 1.0).abs() < 1e-6);
    }
}
