//! The section `[sampling]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use hearth_proto::{CallMode, SAMPLERS, SamplerName, Sampling};

/// How tokens are chosen where neither the request nor the model file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Higher is more varied; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Choose among the k likeliest tokens only; 0: among all.
    pub top_k: u32,
    /// Choose among the likeliest tokens that together reach this probability.
    pub top_p: f32,
    /// Leave out tokens less likely than this share of the likeliest.
    pub min_p: f32,
    /// Choose among the most typical tokens that together reach this probability; 1.0 is
    /// off.
    pub typical_p: f32,
    /// Leave out tokens whose logits are more than so many standard deviations below the
    /// largest; -1.0 is off.
    pub top_n_sigma: f32,
    /// How often (0 to 1) XTC leaves out all but the least likely of the tokens above
    /// `xtc_threshold`; 0.0 is off.
    pub xtc_probability: f32,
    /// The probability from which on XTC takes a token for likely; above 0.5 is off.
    pub xtc_threshold: f32,
    /// By how much the temperature follows the entropy of the choice; 0.0 is off.
    pub dynatemp_range: f32,
    /// How the entropy maps to the temperature under `dynatemp_range`.
    pub dynatemp_exponent: f32,
    /// Make tokens of the last `repeat_last_n` less likely; 1.0 is off.
    pub repeat_penalty: f32,
    /// How far back the penalties look, in tokens.
    pub repeat_last_n: u32,
    /// Make tokens that came already less likely, once; 0.0 is off.
    pub presence_penalty: f32,
    /// Make tokens that came already less likely, for each time; 0.0 is off.
    pub frequency_penalty: f32,
    /// DRY: make tokens that would extend a repetition less likely; 0.0 is off.
    pub dry_multiplier: f32,
    /// DRY: by what its penalty grows with each token of the repetition.
    pub dry_base: f32,
    /// DRY: repetitions of so many tokens are free.
    pub dry_allowed_length: u32,
    /// DRY: how far back it looks, in tokens.
    pub dry_penalty_last_n: u32,
    /// Mirostat, version 1 or 2, which keeps the surprise of the tokens at `mirostat_tau`;
    /// of the other samplers only the temperature is used then. 0 is off.
    pub mirostat: u32,
    /// Mirostat: the surprise it aims at, in bits.
    pub mirostat_tau: f32,
    /// Mirostat: how fast it learns.
    pub mirostat_eta: f32,
    /// The samplers that are applied, in this order.
    #[schemars(with = "Vec<String>")]
    pub samplers: Vec<SamplerName>,
    /// The most tokens of one answer where the request sets no bound; 0: until
    /// the context is full.
    pub max_tokens: u32,
    /// What of an answer is a call of a tool where the request says nothing
    /// (`tool_call_mode`): "strict", what has the form of the model's family; "lenient",
    /// also an answer that begins with JSON. Many small models stray from that form.
    #[schemars(with = "String")]
    pub tool_call_mode: CallMode,
}

impl Default for SamplingConfig {
    /// llama.cpp's defaults but for the temperature, which is 0.8 there.
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: -1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            samplers: SAMPLERS.to_vec(),
            max_tokens: 1024,
            tool_call_mode: CallMode::Strict,
        }
    }
}

impl From<&SamplingConfig> for Sampling {
    fn from(s: &SamplingConfig) -> Self {
        Self {
            temperature: Some(s.temperature),
            top_k: Some(s.top_k),
            top_p: Some(s.top_p),
            min_p: Some(s.min_p),
            typical_p: Some(s.typical_p),
            top_n_sigma: Some(s.top_n_sigma),
            xtc_probability: Some(s.xtc_probability),
            xtc_threshold: Some(s.xtc_threshold),
            dynatemp_range: Some(s.dynatemp_range),
            dynatemp_exponent: Some(s.dynatemp_exponent),
            repeat_penalty: Some(s.repeat_penalty),
            repeat_last_n: Some(s.repeat_last_n),
            presence_penalty: Some(s.presence_penalty),
            frequency_penalty: Some(s.frequency_penalty),
            dry_multiplier: Some(s.dry_multiplier),
            dry_base: Some(s.dry_base),
            dry_allowed_length: Some(s.dry_allowed_length),
            dry_penalty_last_n: Some(s.dry_penalty_last_n),
            mirostat: Some(s.mirostat),
            mirostat_tau: Some(s.mirostat_tau),
            mirostat_eta: Some(s.mirostat_eta),
            samplers: Some(s.samplers.clone()),
            ..Self::default()
        }
    }
}
