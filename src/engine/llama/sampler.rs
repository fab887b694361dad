//! A chain of llama.cpp's samplers, applied to our own candidates.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use crate::engine::backend::Token;
use crate::protocol::{Failure, Sampling};

/// The chain of one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    chain: Option<LlamaSampler>,
    candidates: LlamaTokenDataArray,
    /// Accepting every token costs nothing where no penalty looks back.
    remembers: bool,
}

impl Sampler {
    /// The chain that `sampling` asks for; every value must be set by now or has a
    /// neutral default.
    pub(super) fn new(
        model: &LlamaModel,
        sampling: &Sampling,
        prompt: &[Token],
    ) -> Result<Self, Failure> {
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
            parts.push(LlamaSampler::dist(sampling.seed.unwrap_or(u32::MAX)));
        } else if !parts.is_empty() {
            parts.push(LlamaSampler::greedy());
        }
        let mut chain = (!parts.is_empty()).then(|| LlamaSampler::chain_simple(parts));
        if remembers && let Some(chain) = &mut chain {
            chain.accept_many(prompt.iter().map(|t| LlamaToken(*t)));
        }
        Ok(Self {
            chain,
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
            remembers,
        })
    }

    /// Chooses from logits; greedy without penalties needs no chain at all. `None`
    /// where nothing can be chosen: no logits, or none that is a number.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Option<Token> {
        let best = argmax(logits)?;
        let Some(chain) = &mut self.chain else {
            return Some(best);
        };
        let candidates = &mut self.candidates;
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
        chain.apply(candidates);
        let token = candidates.selected_token()?;
        if self.remembers {
            chain.accept(token);
        }
        Some(token.0)
    }
}

/// The first token with the largest logit above -inf; a NaN is never the largest.
fn argmax(logits: &[f32]) -> Option<Token> {
    let mut best = (None, f32::NEG_INFINITY);
    for (id, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (Some(id), *logit);
        }
    }
    best.0
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
    fn argmax_skips_what_is_no_number() {
        assert_eq!(argmax(&[1.0, f32::NAN, 3.0, 3.0]), Some(2));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(argmax(&[]), None);
    }

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
}
