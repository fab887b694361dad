//! The settings of a request, as llama-server reports them.

use hearth_proto::{AdapterRef, Biased, Constraint, GenerateRequest, SAMPLERS, Sampling};
use serde::Serialize;
use serde_json::{Value, json};

use crate::encode::value;

/// How a request is answered: `generation_settings` of an answer, and `params` of the defaults
/// in `/props`. Fields are sent in this order.
#[derive(Serialize)]
struct Settings<'a> {
    seed: u32,
    temperature: f32,
    dynatemp_range: f32,
    dynatemp_exponent: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    top_n_sigma: f32,
    xtc_probability: f32,
    xtc_threshold: f32,
    typical_p: f32,
    repeat_last_n: u32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    dry_multiplier: f32,
    dry_base: f32,
    dry_allowed_length: u32,
    dry_penalty_last_n: u32,
    dry_sequence_breakers: Vec<String>,
    mirostat: u32,
    mirostat_tau: f32,
    mirostat_eta: f32,
    adaptive_target: f32,
    adaptive_decay: f32,
    stop: &'a [String],
    max_tokens: i64,
    n_predict: i64,
    n_keep: u32,
    ignore_eos: bool,
    stream: bool,
    logit_bias: Vec<Value>,
    n_probs: u8,
    min_keep: u32,
    grammar: &'a str,
    samplers: Vec<&'static str>,
    timings_per_token: bool,
    lora: Vec<Value>,
}

/// The settings of a request, with those of the model where it sets none. What neither sets has
/// llama.cpp's neutral value.
pub(crate) fn settings(
    request: &GenerateRequest,
    defaults: &Sampling,
    stream: bool,
    timings_per_token: bool,
) -> Value {
    let s = request.sampling.or(defaults);
    // -1 is no bound.
    let most = request.max_tokens.filter(|most| *most < u32::MAX);
    let most = most.map_or(-1, i64::from);
    let samplers = s.samplers.as_deref().unwrap_or(&SAMPLERS);
    let lora = request.lora.iter().map(|lora| (&lora.adapter, lora.scale));
    let breakers = ["\n", ":", "\"", "*"].map(str::to_owned);
    value(&Settings {
        seed: s.seed.unwrap_or(u32::MAX),
        temperature: s.temperature.unwrap_or(0.0),
        dynatemp_range: s.dynatemp_range.unwrap_or(0.0),
        dynatemp_exponent: s.dynatemp_exponent.unwrap_or(1.0),
        top_k: s.top_k.unwrap_or(0),
        top_p: s.top_p.unwrap_or(1.0),
        min_p: s.min_p.unwrap_or(0.0),
        top_n_sigma: s.top_n_sigma.unwrap_or(-1.0),
        xtc_probability: s.xtc_probability.unwrap_or(0.0),
        xtc_threshold: s.xtc_threshold.unwrap_or(0.1),
        typical_p: s.typical_p.unwrap_or(1.0),
        repeat_last_n: s.repeat_last_n.unwrap_or(64),
        repeat_penalty: s.repeat_penalty.unwrap_or(1.0),
        presence_penalty: s.presence_penalty.unwrap_or(0.0),
        frequency_penalty: s.frequency_penalty.unwrap_or(0.0),
        dry_multiplier: s.dry_multiplier.unwrap_or(0.0),
        dry_base: s.dry_base.unwrap_or(1.75),
        dry_allowed_length: s.dry_allowed_length.unwrap_or(2),
        dry_penalty_last_n: s.dry_penalty_last_n.unwrap_or(64),
        dry_sequence_breakers: s.dry_sequence_breakers.unwrap_or(breakers.into()),
        mirostat: s.mirostat.unwrap_or(0),
        mirostat_tau: s.mirostat_tau.unwrap_or(5.0),
        mirostat_eta: s.mirostat_eta.unwrap_or(0.1),
        adaptive_target: s.adaptive_target.unwrap_or(-1.0),
        adaptive_decay: s.adaptive_decay.unwrap_or(0.9),
        stop: &request.stop,
        max_tokens: most,
        n_predict: most,
        n_keep: 0,
        ignore_eos: request.sampling.ignore_eos,
        stream,
        logit_bias: request.sampling.logit_bias.iter().map(bias).collect(),
        n_probs: request.logprobs.unwrap_or(0),
        min_keep: s.min_keep.unwrap_or(0),
        grammar: match &request.constraint {
            Some(Constraint::Gbnf(grammar)) => grammar,
            _ => "",
        },
        samplers: samplers.iter().map(|name| name.as_str()).collect(),
        timings_per_token,
        lora: lora.map(adapter).collect(),
    })
}

/// The defaults of a model, for `/props`.
pub fn default_settings(defaults: &Sampling) -> Value {
    settings(&GenerateRequest::default(), defaults, false, false)
}

fn bias((biased, bias): &(Biased, f32)) -> Value {
    match biased {
        Biased::Token(token) => json!({"token": token, "bias": bias}),
        Biased::Text(text) => json!({"token": text, "bias": bias}),
    }
}

fn adapter((adapter, scale): (&AdapterRef, f32)) -> Value {
    match adapter {
        AdapterRef::Id(id) => json!({"id": id, "scale": scale}),
        AdapterRef::Name(name) => json!({"id": name, "scale": scale}),
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::SamplerName;

    use super::*;

    #[test]
    fn a_request_overrides_the_models_defaults() {
        let request = GenerateRequest {
            max_tokens: Some(8),
            stop: vec!["x".into()],
            sampling: Sampling {
                temperature: Some(0.5),
                seed: Some(7),
                logit_bias: vec![(Biased::Token(3), -100.0), (Biased::Text("a".into()), 1.0)],
                ..Sampling::default()
            },
            ..GenerateRequest::default()
        };
        let defaults = Sampling {
            temperature: Some(0.25),
            top_k: Some(40),
            samplers: Some(vec![SamplerName::TopK]),
            ..Sampling::default()
        };
        let told = settings(&request, &defaults, true, false);
        for (name, expected) in [
            ("temperature", json!(0.5)),
            ("seed", json!(7)),
            ("top_k", json!(40)),
            ("top_p", json!(1.0)),
            ("n_predict", json!(8)),
            ("max_tokens", json!(8)),
            ("stop", json!(["x"])),
            ("stream", json!(true)),
            ("samplers", json!(["top_k"])),
            (
                "logit_bias",
                json!([{"token": 3, "bias": -100.0}, {"token": "a", "bias": 1.0}]),
            ),
        ] {
            assert_eq!(told[name], expected, "{name}");
        }
        let without = default_settings(&defaults);
        assert_eq!(
            (&without["n_predict"], &without["seed"]),
            (&json!(-1), &json!(u32::MAX))
        );
    }
}
