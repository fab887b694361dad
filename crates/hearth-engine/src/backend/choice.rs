//! How sure a model was of a token.

use super::tokenizer::Token;

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
}
