//! A chain of llama.cpp's samplers, applied to our own candidates.
//!
//! The chain only filters; the draw is our own, by a number that depends on nothing but
//! the seed and the token's place in the answer. So an answer that goes on in another
//! process goes on as it would have.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use crate::engine::backend::{Mask, Sampled, Token, argmax, no_logits};
use crate::protocol::{Failure, Sampling};

/// The most alternatives of a token that are reported (OpenAI's bound).
const LOGPROBS_MAX: u8 = 20;

/// The state of one answer.
#[derive(Debug)]
pub struct Sampler {
    chain: Option<LlamaSampler>,
    candidates: LlamaTokenDataArray,
    /// Logits as bias and mask leave them, where there are such.
    changed: Vec<f32>,
    bias: Vec<(usize, f32)>,
    /// Accepting every token costs nothing where no penalty looks back.
    remembers: bool,
    /// `None` takes the likeliest.
    seed: Option<u32>,
    /// Tokens answered so far.
    place: u32,
}

impl Sampler {
    /// The chain that `sampling` asks for; every value must be set by now or has a
    /// neutral default.
    pub(super) fn new(model: &LlamaModel, sampling: &Sampling) -> Result<Self, Failure> {
        check(sampling)?;
        let temperature = sampling.temperature.unwrap_or(0.0);
        let repeat = sampling.repeat_penalty.unwrap_or(1.0);
        let presence = sampling.presence_penalty.unwrap_or(0.0);
        let frequency = sampling.frequency_penalty.unwrap_or(0.0);
        #[expect(clippy::float_cmp, reason = "exactly the neutral values switch it off")]
        let remembers = repeat != 1.0 || presence != 0.0 || frequency != 0.0;

        let mut parts = Vec::new();
        if remembers {
            let last_n = sampling.repeat_last_n.unwrap_or(64).min(4096).cast_signed();
            parts.push(LlamaSampler::penalties(
                model.n_vocab(),
                last_n,
                repeat,
                frequency,
                presence,
            ));
        }
        if temperature > 0.0 {
            if let Some(k) = sampling.top_k.filter(|k| *k > 0) {
                parts.push(LlamaSampler::top_k(i32::try_from(k).unwrap_or(i32::MAX)));
            }
            if let Some(p) = sampling.top_p.filter(|p| *p < 1.0) {
                parts.push(LlamaSampler::top_p(p, 1));
            }
            if let Some(p) = sampling.min_p.filter(|p| *p > 0.0) {
                parts.push(LlamaSampler::min_p(p, 1));
            }
            parts.push(LlamaSampler::temp(temperature));
        } else if !parts.is_empty() {
            parts.push(LlamaSampler::greedy());
        }
        Ok(Self {
            chain: (!parts.is_empty()).then(|| LlamaSampler::chain_simple(parts)),
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
            changed: Vec::new(),
            bias: bias(model, sampling)?,
            remembers,
            seed: (temperature > 0.0).then(|| sampling.seed.unwrap_or(0)),
            place: 0,
        })
    }

    /// Tells it tokens that come before its next choice.
    pub(super) fn accept(&mut self, tokens: &[Token], are_answer: bool) {
        if are_answer {
            let more = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            self.place = self.place.saturating_add(more);
        }
        if self.remembers
            && let Some(chain) = &mut self.chain
        {
            chain.accept_many(tokens.iter().map(|t| LlamaToken(*t)));
        }
    }

    /// Chooses from logits; greedy without penalties needs no chain at all.
    pub(super) fn choose(
        &mut self,
        raw: &[f32],
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure> {
        let mut logits = raw;
        if mask.is_some() || !self.bias.is_empty() {
            self.changed.clear();
            self.changed.extend_from_slice(raw);
            for (token, bias) in &self.bias {
                if let Some(logit) = self.changed.get_mut(*token) {
                    *logit += bias;
                }
            }
            if let Some(mask) = mask {
                mask(&mut self.changed)?;
            }
            logits = &self.changed;
        }
        let mut token = argmax(logits).ok_or_else(no_logits)?;
        if let Some(chain) = &mut self.chain {
            let candidates = &mut self.candidates;
            fill(candidates, logits);
            chain.apply(candidates);
            let chosen = match self.seed {
                Some(seed) => draw(&candidates.data, uniform(seed, self.place)),
                None => candidates.selected_token().map(|t| t.0),
            };
            token = chosen.ok_or_else(no_logits)?;
        }
        Ok(Sampled {
            token,
            logprobs: logprobs.map(|n| log_probabilities(raw, token, n.min(LOGPROBS_MAX))),
        })
    }
}

fn fill(candidates: &mut LlamaTokenDataArray, logits: &[f32]) {
    candidates.data.clear();
    // A NaN among them would break the order that the samplers sort by.
    candidates.data.extend((0..).zip(logits).map(|(id, logit)| {
        let logit = if logit.is_nan() {
            f32::NEG_INFINITY
        } else {
            *logit
        };
        LlamaTokenData::new(LlamaToken(id), logit, 0.0)
    }));
    candidates.sorted = false;
    candidates.selected = None;
}

/// The candidate at `share`, 0 to 1, of all their probabilities in a row.
fn draw(candidates: &[LlamaTokenData], share: f64) -> Option<Token> {
    let most = candidates
        .iter()
        .map(LlamaTokenData::logit)
        .fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return None;
    }
    let weight = |c: &LlamaTokenData| f64::from(c.logit() - most).exp();
    let mut left = share * candidates.iter().map(weight).sum::<f64>();
    let mut last = None;
    for candidate in candidates {
        let weight = weight(candidate);
        if weight > 0.0 {
            last = Some(candidate.id().0);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// A number from 0 up to 1 for a place in an answer: `SplitMix64` (Steele, Lea and
/// Flood 2014) of seed and place, as a counter-based generator.
fn uniform(seed: u32, place: u32) -> f64 {
    let mut z = (u64::from(seed) << 32 | u64::from(place)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// The logarithm of what has no probability, as OpenAI's API writes it: JSON, in which it
/// crosses to the daemon, has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// Logarithms of the probabilities of `token` and of the `n` likeliest tokens, as the
/// model computed them; all are finite.
fn log_probabilities(logits: &[f32], token: Token, n: u8) -> (f32, Vec<(Token, f32)>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let known = logits.iter().filter(|logit| !logit.is_nan());
    let sum: f64 = known.map(|l| f64::from(l - most).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let norm = most + sum.ln() as f32;
    let logarithm = |logit: f32| {
        Some(logit - norm)
            .filter(|l| l.is_finite())
            .unwrap_or(IMPOSSIBLE)
    };
    let mut top: Vec<(Token, f32)> = Vec::with_capacity(usize::from(n) + 1);
    for (id, logit) in (0..).zip(logits) {
        let is_full = top.len() == usize::from(n);
        if n == 0 || logit.is_nan() || (is_full && top.last().is_some_and(|l| *logit <= l.1)) {
            continue;
        }
        let at = top.partition_point(|(_, other)| other >= logit);
        top.insert(at, (id, *logit));
        top.truncate(usize::from(n));
    }
    for (_, logit) in &mut top {
        *logit = logarithm(*logit);
    }
    let own = usize::try_from(token).ok().and_then(|t| logits.get(t));
    (own.map_or(IMPOSSIBLE, |own| logarithm(*own)), top)
}

fn bias(model: &LlamaModel, sampling: &Sampling) -> Result<Vec<(usize, f32)>, Failure> {
    let vocab = model.n_vocab();
    let ends =
        (0..vocab).filter(|token| sampling.ignore_eos && model.vocab().is_eog(LlamaToken(*token)));
    let ends = ends.map(|token| Ok((usize::try_from(token).unwrap_or(0), f32::NEG_INFINITY)));
    let checked = sampling.logit_bias.iter().map(|(token, bias)| {
        if !(0..vocab).contains(token) {
            return Err(Failure::invalid(format!(
                "logit_bias names token {token}: this model has tokens 0 to {}",
                vocab - 1
            )));
        }
        if !(-100.0..=100.0).contains(bias) {
            return Err(Failure::invalid(format!(
                "logit_bias {bias}: must lie between -100 and 100"
            )));
        }
        // OpenAI: -100 and 100 ban and force, whatever the model thinks.
        let bias = match *bias {
            -100.0 => f32::NEG_INFINITY,
            100.0 => 1e6,
            bias => bias,
        };
        Ok((usize::try_from(*token).unwrap_or(0), bias))
    });
    checked.chain(ends).collect()
}

/// Values that would make llama.cpp misbehave never reach it.
fn check(sampling: &Sampling) -> Result<(), Failure> {
    let range = |name: &str, value: Option<f32>, low: f32, high: f32| match value {
        Some(v) if !(low..=high).contains(&v) => Err(Failure::invalid(format!(
            "{name} = {v}: must lie between {low} and {high}"
        ))),
        _ => Ok(()),
    };
    range("temperature", sampling.temperature, 0.0, 10.0)?;
    range("top_p", sampling.top_p, 0.0, 1.0)?;
    range("min_p", sampling.min_p, 0.0, 1.0)?;
    range("repeat_penalty", sampling.repeat_penalty, 0.01, 10.0)?;
    range("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    range("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let bad = Sampling {
            top_p: Some(1.5),
            ..Sampling::default()
        };
        assert!(check(&bad).unwrap_err().message.contains("top_p"));
        let nan = Sampling {
            temperature: Some(f32::NAN),
            ..Sampling::default()
        };
        assert!(check(&nan).is_err());
        assert!(check(&Sampling::default()).is_ok());
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, f32::NEG_INFINITY, 3f32.ln()];
        let mut candidates = LlamaTokenDataArray::new(Vec::new(), false);
        fill(&mut candidates, &logits);
        let mut counts = [0u32; 3];
        for place in 0..4000 {
            let token = draw(&candidates.data, uniform(7, place)).unwrap();
            counts[usize::try_from(token).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
        assert_eq!(draw(&candidates.data, 0.9999), Some(2));
        fill(&mut candidates, &[f32::NAN]);
        assert_eq!(draw(&candidates.data, 0.5), None);
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, 3.0, 2.0, f32::NAN, f32::NEG_INFINITY];
        let (_, top) = log_probabilities(&logits[..3], 1, 2);
        assert_eq!([top[0].0, top[1].0], [1, 2]);
        let (own, all) = log_probabilities(&logits[..3], 1, 20);
        let sum: f32 = all.iter().map(|(_, l)| l.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5 && (own - all[0].1).abs() < 1e-6);
        assert_eq!(log_probabilities(&logits, 0, 0).1, []);
        // What is no number, or none at all, has a logarithm that can be sent.
        let (own, all) = log_probabilities(&logits, 4, 20);
        let likely: f32 = all.iter().map(|(_, l)| l.exp()).sum();
        assert!((likely - 1.0).abs() < 1e-5, "{all:?}");
        assert_eq!((own, all.len()), (IMPOSSIBLE, 4));
        for logits in [[f32::NAN; 2], [f32::NEG_INFINITY; 2], [f32::INFINITY; 2]] {
            let (own, all) = log_probabilities(&logits, 1, 20);
            assert!(
                own.is_finite() && all.iter().all(|(_, l)| l.is_finite()),
                "{logits:?}"
            );
        }
    }
}
