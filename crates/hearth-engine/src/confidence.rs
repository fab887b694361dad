//! The model's confidence in a call: in its choices where a constraint allowed several
//! tokens.

use hearth_proto::Confidence;

use super::backend::{Choice, Token};

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
