//! The arithmetic of evaluation: means, log-probabilities, and the divergence of a model
//! from another one. No I/O.

use crate::backend::{Token, argmax};

/// The number of likeliest tokens of a reference's distribution that are stored for each
/// position; the rest counts as one token. With a larger vocabulary the divergence is
/// therefore a lower bound (grouping never makes it larger: the log sum inequality).
pub(super) const STORED_MAX: usize = 1024;

/// Computes the mean of numbers and its standard error.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// The standard error of the mean; 0 where there is one number or none.
    pub(super) fn error(&self) -> f64 {
        if self.count < 2.0 {
            return 0.0;
        }
        let variance = self.squares / self.count - self.mean().powi(2);
        (variance.max(0.0) / (self.count - 1.0)).sqrt()
    }
}

/// ln of the sum of the exponentials of all logits; not finite where they are NaN.
pub(super) fn log_sum(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - most).exp())
        .sum();
    f64::from(most) + sum.ln()
}

/// A token's log-probability, rounded as it is stored in a file.
#[expect(clippy::cast_possible_truncation, reason = "that is the rounding")]
fn log_probability(logits: &[f32], log_sum: f64, token: usize) -> f32 {
    logits.get(token).map_or(f32::NEG_INFINITY, |logit| {
        (f64::from(*logit) - log_sum) as f32
    })
}

/// The stored part of a distribution: the likeliest token first, then the next
/// [`STORED_MAX`] - 1 in no particular order, each with its log-probability.
pub(super) fn to_store(logits: &[f32], log_sum: f64) -> Vec<(u32, f32)> {
    let mut ids: Vec<u32> = (0..u32::try_from(logits.len()).unwrap_or(0)).collect();
    let of = |id: u32| logits[id as usize];
    let stored = STORED_MAX.min(ids.len());
    if stored < ids.len() {
        ids.select_nth_unstable_by(stored, |a, b| of(*b).total_cmp(&of(*a)));
        ids.truncate(stored);
    }
    let best = argmax(logits).and_then(|best| u32::try_from(best).ok());
    if let Some(at) = ids.iter().position(|id| Some(*id) == best) {
        ids.swap(0, at);
    }
    let with = |id: u32| (id, log_probability(logits, log_sum, id as usize));
    ids.into_iter().map(with).collect()
}

/// How far a distribution is from the stored reference: the Kullback-Leibler divergence
/// in nats, sum of p ln(p/q), p the reference's; and whether both have the same likeliest
/// token.
pub(super) fn diverge(stored: &[(u32, f32)], logits: &[f32], log_sum: f64) -> (f64, bool) {
    let (mut divergence, mut p_kept, mut q_kept) = (0.0, 0.0, 0.0);
    for (id, log_p) in stored {
        let log_q = f64::from(log_probability(logits, log_sum, *id as usize));
        let log_p = f64::from(*log_p);
        let p = log_p.exp();
        p_kept += p;
        q_kept += log_q.exp();
        if p > 0.0 {
            divergence += p * (log_p - log_q);
        }
    }
    if stored.len() < logits.len() {
        // Below this the difference from 1 is a rounding error of the sum.
        const LEAST: f64 = 1e-9;
        let (p, q) = (1.0 - p_kept, 1.0 - q_kept);
        if p > LEAST {
            divergence += p * (p / q.max(LEAST)).ln();
        }
    }
    let best = stored.first().and_then(|(id, _)| Token::try_from(*id).ok());
    (
        divergence.max(0.0),
        best.is_some() && best == argmax(logits),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arbitrary numbers, the same each time.
    fn logits(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 6553.6
        };
        (0..count).map(|_| next()).collect()
    }

    fn divergence(p: &[f32], q: &[f32]) -> f64 {
        diverge(&to_store(p, log_sum(p)), q, log_sum(q)).0
    }

    /// Computed from the definition, without regard to overflow.
    fn direct(p: &[f32], q: &[f32]) -> f64 {
        let share = |of: &[f32]| {
            let all: f64 = of.iter().map(|l| f64::from(*l).exp()).sum();
            of.iter()
                .map(|l| f64::from(*l).exp() / all)
                .collect::<Vec<_>>()
        };
        let pairs = share(p).into_iter().zip(share(q));
        pairs.map(|(p, q)| p * (p / q).ln()).sum()
    }

    #[test]
    fn mean_and_error() {
        let mut mean = Mean::default();
        assert!(mean.error().abs() < 1e-12);
        for value in [1.0, 2.0, 3.0, 4.0] {
            mean.add(value);
        }
        assert!((mean.mean() - 2.5).abs() < 1e-12);
        // The deviation of a sample, 1.2910, over the root of 4.
        assert!((mean.error() - 0.645_497).abs() < 1e-6, "{}", mean.error());
    }

    #[test]
    fn the_logarithm_of_the_sum_does_not_overflow() {
        assert!((log_sum(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-9);
        assert!(!log_sum(&[f32::NAN, f32::NAN]).is_finite());
    }

    #[test]
    fn a_small_vocabulary_s_divergence_is_exact() {
        let (p, q) = (logits(300, 1), logits(300, 2));
        let wanted = direct(&p, &q);
        assert!((divergence(&p, &q) - wanted).abs() < 1e-5 * wanted);
        assert!(divergence(&p, &p).abs() < 1e-12);
        let (_, same) = diverge(&to_store(&p, log_sum(&p)), &p, log_sum(&p));
        assert!(same);
        let (_, same) = diverge(&to_store(&p, log_sum(&p)), &q, log_sum(&q));
        assert!(!same);
    }

    #[test]
    fn a_large_vocabulary_s_divergence_is_a_close_lower_bound() {
        let p: Vec<f32> = logits(30_000, 3).iter().map(|l| 2.0 * l).collect();
        let noise = logits(30_000, 4);
        let q: Vec<f32> = p.iter().zip(&noise).map(|(p, n)| p + 0.1 * n).collect();
        let (kept, wanted) = (divergence(&p, &q), direct(&p, &q));
        assert!(kept <= wanted && kept > 0.0, "{kept} {wanted}");
        assert_eq!(to_store(&p, log_sum(&p)).len(), STORED_MAX);
        assert!(divergence(&p, &p).abs() < 1e-9);
    }
}
