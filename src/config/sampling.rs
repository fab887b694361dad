//! The section `[sampling]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use hearth_proto::{CallMode, SAMPLERS, SamplerName, Sampling};

/// Default sampling settings. They apply where neither the request nor the model file sets
/// a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Randomness of the choice; 0 always selects the most probable token.
    pub temperature: f32,
    /// Sample from the k most probable tokens; 0 is off.
    pub top_k: u32,
    /// Sample from the most probable tokens whose probabilities sum up to this value; 1.0 is
    /// off.
    pub top_p: f32,
    /// Exclude tokens whose probability, relative to that of the most probable token, is below
    /// this value; 0.0 is off.
    pub min_p: f32,
    /// Sample from the most typical tokens whose probabilities sum up to this value; 1.0 is
    /// off.
    pub typical_p: f32,
    /// Exclude tokens whose logits are more than this many standard deviations below the
    /// largest one; -1.0 is off.
    pub top_n_sigma: f32,
    /// Probability (0 to 1) with which XTC excludes all tokens above `xtc_threshold` except
    /// the least probable of them; 0.0 is off.
    pub xtc_probability: f32,
    /// Probability threshold of XTC; above 0.5 is off.
    pub xtc_threshold: f32,
    /// Dynamic temperature: the temperature varies by this much with the entropy; 0.0 is off.
    pub dynatemp_range: f32,
    /// Dynamic temperature: exponent of the mapping from entropy to temperature.
    pub dynatemp_exponent: f32,
    /// Penalty for tokens among the last `repeat_last_n`; 1.0 is off.
    pub repeat_penalty: f32,
    /// Number of last tokens that the penalties apply to.
    pub repeat_last_n: u32,
    /// Penalty for tokens that have occurred, independent of how often; 0.0 is off.
    pub presence_penalty: f32,
    /// Penalty for tokens that have occurred, for each occurrence; 0.0 is off.
    pub frequency_penalty: f32,
    /// DRY: factor of the penalty for tokens that would extend a repetition; 0.0 is off.
    pub dry_multiplier: f32,
    /// DRY: base of the penalty's exponential growth with the length of the repetition.
    pub dry_base: f32,
    /// DRY: repetitions up to this length have no penalty.
    pub dry_allowed_length: u32,
    /// DRY: number of last tokens that are searched for repetitions.
    pub dry_penalty_last_n: u32,
    /// Mirostat, version 1 or 2, which controls the surprise of the tokens. Of the other
    /// samplers only the temperature is then used. 0 is off.
    pub mirostat: u32,
    /// Mirostat: target surprise in bits.
    pub mirostat_tau: f32,
    /// Mirostat: learning rate.
    pub mirostat_eta: f32,
    /// The samplers, in the order of their application.
    #[schemars(with = "Vec<String>")]
    pub samplers: Vec<SamplerName>,
    /// Maximum number of tokens of an answer if the request sets none; 0: until the context is
    /// full.
    pub max_tokens: u32,
    /// Which answers are tool calls if the request does not set `tool_call_mode`: "strict":
    /// those in the format of the model family; "lenient": also those that begin with JSON,
    /// since many small models deviate from the format.
    #[schemars(with = "String")]
    pub tool_call_mode: CallMode,
}

impl Default for SamplingConfig {
    /// The defaults of llama.cpp, except the temperature, which is 0.8 there.
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
