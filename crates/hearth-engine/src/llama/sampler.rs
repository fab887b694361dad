//! How an answer's tokens are chosen: llama.cpp's samplers in llama.cpp's order, applied
//! to our own candidates.
//!
//! They only filter; the draw is our own, with llama.cpp's random numbers, indexed by the
//! token's position in the answer. So an answer that is resumed in another process
//! continues as it would have without the interruption. llama.cpp draws for XTC only
//! where two tokens are left, here each position has its number: with XTC, a seed may
//! give other tokens than in llama.cpp. Mirostat and `adaptive_p` choose by themselves
//! and have a state: where such an answer is resumed, they start again from their target.

use hearth_proto::{Biased, Failure, SAMPLERS, SamplerName, Sampling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

use super::chain::{Candidates, Stage};
use super::draw::Draws;
use super::raw::raw;
use crate::backend::{Choice, Mask, Sampled, Token, argmax, no_logits};

/// The most alternatives of a token that are reported (OpenAI's limit).
pub(super) const LOGPROBS_MAX: u8 = 20;

/// The state of one answer.
#[derive(Debug)]
pub struct Sampler {
    stages: Vec<(SamplerName, Stage)>,
    /// Chooses the token instead of a draw.
    choosing: Option<Stage>,
    /// The likeliest token is chosen, regardless of the filters.
    is_greedy: bool,
    candidates: Candidates,
    /// The logits after bias and mask, if there are any.
    changed: Vec<f32>,
    bias: Vec<(usize, f32)>,
    draws: Draws,
    xtc: (Draws, f32),
    /// The number of answer tokens so far.
    place: u32,
}

impl Sampler {
    /// The sampler for `sampling`; a value that is not set has llama.cpp's neutral
    /// default.
    pub(super) fn new(model: &LlamaModel, sampling: &Sampling) -> Result<Self, Failure> {
        sampling.check().map_err(|(_, why)| Failure::invalid(why))?;
        let bias = bias(model, sampling)?;
        Ok(Self::assemble(Some(model), sampling, bias))
    }

    fn assemble(model: Option<&LlamaModel>, s: &Sampling, bias: Vec<(usize, f32)>) -> Self {
        let seed = s.seed.unwrap_or(0);
        // Mirostat replaces all filters, as in llama.cpp.
        let names = match (s.mirostat.unwrap_or(0), &s.samplers) {
            (1.., _) => &[SamplerName::Temperature],
            (_, None) => SAMPLERS.as_slice(),
            (_, Some(own)) => own.as_slice(),
        };
        let stages: Vec<_> = (names.iter())
            .filter_map(|name| Some((*name, Stage::new(*name, model, s)?)))
            .collect();
        let choosing = Stage::choosing(model, s, seed);
        let is_cold = s.temperature.unwrap_or(0.0) <= 0.0
            && s.dynatemp_range.unwrap_or(0.0) <= 0.0
            && names.contains(&SamplerName::Temperature);
        // These can make another token the likeliest; the others keep it.
        let reorders = |name: &SamplerName| {
            use SamplerName::{Dry, Infill, Penalties, TypP, Xtc};
            matches!(name, Penalties | Dry | TypP | Xtc | Infill)
        };
        let is_greedy = is_cold && !stages.iter().any(|(name, _)| reorders(name));
        Self {
            stages: if is_greedy { Vec::new() } else { stages },
            choosing,
            is_greedy,
            candidates: Candidates::default(),
            changed: Vec::new(),
            bias,
            draws: Draws::new(seed),
            xtc: (Draws::new(seed), s.xtc_probability.unwrap_or(0.0)),
            place: 0,
        }
    }

    /// Passes it tokens that precede its next choice.
    pub(super) fn accept(&mut self, tokens: &[Token], are_answer: bool) {
        if are_answer {
            let more = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            self.place = self.place.saturating_add(more);
        }
        let remembers = |name| matches!(name, SamplerName::Penalties | SamplerName::Dry);
        for (_, stage) in self.stages.iter_mut().filter(|(name, _)| remembers(*name)) {
            for token in tokens {
                stage.accept(*token);
            }
        }
        if are_answer && let Some(stage) = &mut self.choosing {
            for token in tokens {
                stage.accept(*token);
            }
        }
    }

    /// Chooses from logits.
    pub(super) fn choose(
        &mut self,
        raw: &[f32],
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure> {
        let mut logits = raw;
        let is_masked = mask.is_some();
        if is_masked || !self.bias.is_empty() {
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
        let token = if self.is_greedy {
            argmax(logits)
        } else {
            self.candidates.fill(logits);
            self.sample(is_masked)
        };
        let token = token.ok_or_else(no_logits)?;
        Ok(Sampled {
            token,
            logprobs: logprobs.map(|n| log_probabilities(raw, token, n.min(LOGPROBS_MAX))),
            choice: is_masked
                .then(|| Choice::of(&self.changed, token))
                .flatten(),
        })
    }

    /// Filters the candidates and chooses one; `None` where there is none.
    fn sample(&mut self, is_masked: bool) -> Option<Token> {
        self.filter(is_masked);
        if self.candidates.len() == 0 {
            return None;
        }
        match &mut self.choosing {
            Some(stage) => {
                stage.apply(&mut self.candidates);
                self.candidates.selected()
            }
            None => pick(&self.candidates, self.draws.double(self.place)),
        }
    }

    fn filter(&mut self, is_masked: bool) {
        for (name, stage) in &mut self.stages {
            match name {
                // It may add a token that the mask forbids.
                SamplerName::Infill if is_masked => {}
                SamplerName::Xtc if self.xtc.0.single(self.place) > self.xtc.1 => {}
                _ => stage.apply(&mut self.candidates),
            }
        }
    }
}

/// The candidate at `share`, 0 to 1, of the cumulative probability; computed bit for bit
/// as llama.cpp's `dist` computes it.
fn pick(candidates: &Candidates, share: f64) -> Option<Token> {
    let most = candidates.all().map(|(_, logit)| logit);
    let most = most.fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return None;
    }
    let weights =
        || (candidates.all()).map(|(token, logit)| (token, f64::from((logit - most).exp())));
    let target = weights().map(|(_, weight)| weight).sum::<f64>() * share;
    let (mut sum, mut last) = (0.0, None);
    for (token, weight) in weights().filter(|(_, weight)| *weight > 0.0) {
        sum += weight;
        last = Some(token);
        if sum >= target {
            break;
        }
    }
    last
}

/// The log-probability of an impossible token, as in OpenAI's API: JSON, the format of
/// messages to the daemon, has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// Logarithms of the probabilities of `token` and of the `n` likeliest tokens, as the
/// model computed them; all are finite.
pub(super) fn log_probabilities(logits: &[f32], token: Token, n: u8) -> (f32, Vec<(Token, f32)>) {
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

/// What is added to logits: the request's biases, and bans of forbidden tokens.
fn bias(model: &LlamaModel, sampling: &Sampling) -> Result<Vec<(usize, f32)>, Failure> {
    let vocab = model.n_vocab();
    let place = |token: Token| usize::try_from(token).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for (biased, value) in &sampling.logit_bias {
        if !(-100.0..=100.0).contains(value) {
            return Err(Failure::invalid(format!(
                "logit_bias {value}: must lie between -100 and 100"
            )));
        }
        // OpenAI: -100 bans and 100 forces a token, regardless of the model.
        let value = match *value {
            -100.0 => f32::NEG_INFINITY,
            100.0 => 1e6,
            value => value,
        };
        match biased {
            Biased::Token(token) if (0..vocab).contains(token) => all.push((place(*token), value)),
            Biased::Token(token) => {
                return Err(Failure::invalid(format!(
                    "logit_bias names token {token}: this model has tokens 0 to {}",
                    vocab - 1
                )));
            }
            Biased::Text(text) => {
                let tokens = model.vocab().tokenize(text.as_bytes(), false, false);
                all.extend(tokens.into_iter().map(|token| (place(token.0), value)));
            }
        }
    }
    let ban = |token| (place(token), f32::NEG_INFINITY);
    if sampling.ignore_eos {
        let ends = (0..vocab).filter(|token| model.vocab().is_eog(LlamaToken(*token)));
        all.extend(ends.map(ban));
    }
    all.extend(suppressed(model).into_iter().map(ban));
    Ok(all)
}

/// The tokens that the model file says must never be generated
/// (`tokenizer.ggml.suppress_tokens`).
fn suppressed(model: &LlamaModel) -> Vec<Token> {
    let mut count = 0;
    // SAFETY: the model is valid; the list is its vocabulary's, of `count` tokens or null.
    unsafe {
        let vocab = sys::llama_model_get_vocab(raw(model));
        let list = sys::llama_vocab_get_suppress_tokens(vocab, &raw mut count);
        match usize::try_from(count) {
            Ok(count @ 1..) if !list.is_null() => std::slice::from_raw_parts(list, count).to_vec(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
