mod filters;
mod parity;

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use super::super::testing::{context, load, real_model, small};
use super::*;
use crate::backend::Part;

/// Logits that differ at each step, distributed as those of a model: a few large, many
/// small.
fn logits(count: usize, step: u32) -> Vec<f32> {
    let mut draws = Draws::new(1000 + step);
    let places = (0..).take(count);
    places
        .map(|n| draws.single(n).powi(4) * 12.0 - 3.0)
        .collect()
}

/// The choice of llama.cpp's own chain.
fn reference(chain: &mut LlamaSampler, logits: &[f32]) -> Token {
    let ids = (0..).zip(logits);
    let data = ids.map(|(id, logit)| LlamaTokenData::new(LlamaToken(id), *logit, 0.0));
    let mut array = LlamaTokenDataArray::new(data.collect(), false);
    chain.apply(&mut array);
    let token = array.selected_token().unwrap();
    chain.accept(token);
    token.0
}

/// Both choose from the same logits, and each accepts its own tokens.
fn agree(what: &str, sampling: &Sampling, model: Option<&LlamaModel>, stages: Vec<LlamaSampler>) {
    let mut ours = Sampler::assemble(model, sampling, Vec::new());
    let mut theirs = LlamaSampler::chain_simple(stages);
    let mut seen = std::collections::HashSet::new();
    for step in 0..300 {
        let logits = logits(300, step);
        let token = ours.choose(&logits, None, None).unwrap().token;
        assert_eq!(
            token,
            reference(&mut theirs, &logits),
            "{what}, token {step}"
        );
        ours.accept(&[token], true);
        seen.insert(token);
    }
    assert!(seen.len() > 1, "{what}: one token only");
}

const SEED: u32 = 1234;

fn at(temperature: f32) -> Sampling {
    Sampling {
        temperature: Some(temperature),
        seed: Some(SEED),
        ..Sampling::default()
    }
}

/// What the filters leave, by token.
fn logits_left(sampler: &mut Sampler, logits: &[f32]) -> Vec<(Token, f32)> {
    sampler.candidates.fill(logits);
    sampler.filter(false);
    let mut left: Vec<_> = sampler.candidates.all().collect();
    left.retain(|(_, logit)| *logit > f32::NEG_INFINITY);
    left.sort_by_key(|(token, _)| *token);
    left
}

fn left(sampling: &Sampling, logits: &[f32]) -> Vec<Token> {
    let mut sampler = Sampler::assemble(None, sampling, Vec::new());
    let left = logits_left(&mut sampler, logits);
    left.into_iter().map(|(token, _)| token).collect()
}

/// Logits of these probabilities.
fn of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}
