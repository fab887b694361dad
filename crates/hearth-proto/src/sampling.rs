//! Sampling options: llama.cpp's samplers, with its names.

use serde::{Deserialize, Serialize};

/// Look-back windows of `repeat_last_n` and `dry_penalty_last_n` are at most this long, in
/// tokens. llama.cpp allocates them up front; -1 in a request means this many.
pub const LAST_N_MAX: u32 = 65_536;
/// The most entries of `samplers`.
const SAMPLERS_MAX: usize = 32;
/// The most entries of `dry_sequence_breakers`: llama.cpp searches the whole vocabulary
/// for each.
const BREAKERS_MAX: usize = 16;
/// Their maximum length in bytes; llama.cpp truncates longer ones.
const BREAKER_BYTES_MAX: usize = 40;

/// A sampler of llama.cpp (`common_sampler_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerName {
    /// Repetition, presence and frequency penalties.
    Penalties,
    /// A penalty for tokens that would extend a repetition.
    Dry,
    /// Keeps tokens within n standard deviations of the largest logit.
    TopNSigma,
    /// Keeps the k most likely tokens.
    TopK,
    /// Keeps the most typical tokens that together reach p.
    TypP,
    /// Keeps the most likely tokens that together reach p.
    TopP,
    /// Keeps tokens with at least this share of the highest probability.
    MinP,
    /// Sometimes removes all but the least likely of the likely tokens.
    Xtc,
    /// Divides the logits.
    Temperature,
    /// Merges tokens with a common prefix, for filling in code.
    Infill,
    /// Prefers tokens near a target probability; selects the token, so it is always last.
    AdaptiveP,
}

/// llama.cpp's default order, used if none is set.
pub const SAMPLERS: [SamplerName; 9] = [
    SamplerName::Penalties,
    SamplerName::Dry,
    SamplerName::TopNSigma,
    SamplerName::TopK,
    SamplerName::TypP,
    SamplerName::TopP,
    SamplerName::MinP,
    SamplerName::Xtc,
    SamplerName::Temperature,
];

/// Names of samplers, and llama.cpp's letters for them.
const NAMES: [(SamplerName, &str, char); 11] = [
    (SamplerName::Penalties, "penalties", 'e'),
    (SamplerName::Dry, "dry", 'd'),
    (SamplerName::TopNSigma, "top_n_sigma", 's'),
    (SamplerName::TopK, "top_k", 'k'),
    (SamplerName::TypP, "typ_p", 'y'),
    (SamplerName::TopP, "top_p", 'p'),
    (SamplerName::MinP, "min_p", 'm'),
    (SamplerName::Xtc, "xtc", 'x'),
    (SamplerName::Temperature, "temperature", 't'),
    (SamplerName::Infill, "infill", 'i'),
    (SamplerName::AdaptiveP, "adaptive_p", 'a'),
];

impl SamplerName {
    /// llama.cpp's name.
    pub fn as_str(self) -> &'static str {
        let found = NAMES.iter().find(|(sampler, ..)| *sampler == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// The sampler of a letter, as in llama.cpp's `--sampler-seq`.
    ///
    /// # Errors
    /// A message that lists the valid letters.
    pub fn of_letter(letter: char) -> Result<Self, String> {
        let found = NAMES.iter().find(|(.., known)| *known == letter);
        found.map(|(sampler, ..)| *sampler).ok_or_else(|| {
            let letters = NAMES.map(|(_, name, letter)| format!("{letter} ({name})"));
            format!("unknown sampler {letter:?}: use {}", letters.join(", "))
        })
    }
}

impl std::str::FromStr for SamplerName {
    type Err = String;

    /// llama.cpp's names and the alternative spellings that it accepts: `top-k`, `topk`.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['_', '-'], "");
        let wanted = match plain(&text.to_ascii_lowercase()).as_str() {
            "temp" => "temperature".to_owned(),
            "nucleus" => "topp".to_owned(),
            "typ" | "typicalp" => "typp".to_owned(),
            other => other.to_owned(),
        };
        let found = NAMES.iter().find(|(_, name, _)| plain(name) == wanted);
        found.map(|(sampler, ..)| *sampler).ok_or_else(|| {
            let names = NAMES.map(|(_, name, _)| name).join(", ");
            format!("unknown sampler {text:?}: use {names}")
        })
    }
}

/// Which tokens a `logit_bias` is added to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biased {
    /// One, by its number in the vocabulary.
    Token(i32),
    /// Every token of a text.
    Text(String),
}

/// How the next token is chosen. `None` means: the model file's recommendation if it has
/// one (`general.sampling.*`), else the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// By how much the temperature varies with the entropy of the choice; 0 is off.
    pub dynatemp_range: Option<f32>,
    /// How the entropy maps to the temperature.
    pub dynatemp_exponent: Option<f32>,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the most likely tokens that together reach p.
    pub top_p: Option<f32>,
    /// Keep tokens with at least this share of the highest probability.
    pub min_p: Option<f32>,
    /// Keep the most typical tokens that together reach p; 1 is off.
    pub typical_p: Option<f32>,
    /// Keep tokens within this many standard deviations of the largest logit; 0 or less is
    /// off.
    pub top_n_sigma: Option<f32>,
    /// How often XTC removes the most likely tokens, as a probability; 0 is off.
    pub xtc_probability: Option<f32>,
    /// Probability from which a token counts as likely for XTC; above 0.5 is off.
    pub xtc_threshold: Option<f32>,
    /// The filters keep at least this many tokens.
    pub min_keep: Option<u32>,
    /// Divides logits of recent tokens; 1 is off.
    pub repeat_penalty: Option<f32>,
    /// How many recent tokens the penalties consider.
    pub repeat_last_n: Option<u32>,
    /// Subtracted once from tokens seen (OpenAI).
    pub presence_penalty: Option<f32>,
    /// Subtracted per occurrence (OpenAI).
    pub frequency_penalty: Option<f32>,
    /// DRY's penalty; 0 is off.
    pub dry_multiplier: Option<f32>,
    /// DRY's penalty grows by this factor with each token of a repetition; below 1 is off.
    pub dry_base: Option<f32>,
    /// Repetitions up to this length are not penalized.
    pub dry_allowed_length: Option<u32>,
    /// How many recent tokens DRY considers.
    pub dry_penalty_last_n: Option<u32>,
    /// Texts that end a repetition.
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// 1 or 2: Mirostat of that version replaces all samplers but temperature.
    pub mirostat: Option<u32>,
    /// Mirostat's target, the surprise of a token in bits.
    pub mirostat_tau: Option<f32>,
    /// Mirostat's learning rate.
    pub mirostat_eta: Option<f32>,
    /// The probability that `adaptive_p` prefers; below 0 is off.
    pub adaptive_target: Option<f32>,
    /// Decay of `adaptive_p`'s history; larger is slower.
    pub adaptive_decay: Option<f32>,
    /// The samplers that are applied, in this order; [`SAMPLERS`] if unset.
    pub samplers: Option<Vec<SamplerName>>,
    /// Makes sampling repeatable; `None`: a random seed for each request.
    pub seed: Option<u32>,
    /// Added to the logits of these tokens (OpenAI: -100 bans, 100 forces).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(Biased, f32)>,
    /// Continues where the model would end its answer, for measurements.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_eos: bool,
}

/// A number with a range: name, value, minimum, maximum.
type Range = (&'static str, Option<f32>, f32, f32);

impl Sampling {
    /// Takes options that are unset here from `others`. `logit_bias` and `ignore_eos` are never
    /// taken from there.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        macro_rules! merge {
            ($($name:ident)*) => {
                Self {
                    logit_bias: self.logit_bias.clone(),
                    ignore_eos: self.ignore_eos,
                    $($name: self.$name.clone().or_else(|| others.$name.clone()),)*
                }
            };
        }
        merge!(
            temperature dynatemp_range dynatemp_exponent top_k top_p min_p typical_p
            top_n_sigma xtc_probability xtc_threshold min_keep repeat_penalty repeat_last_n
            presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length
            dry_penalty_last_n dry_sequence_breakers mirostat mirostat_tau mirostat_eta
            adaptive_target adaptive_decay samplers seed
        )
    }

    fn ranges(&self) -> [Range; 17] {
        [
            ("temperature", self.temperature, 0.0, 10.0),
            ("dynatemp_range", self.dynatemp_range, 0.0, 10.0),
            ("dynatemp_exponent", self.dynatemp_exponent, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("top_n_sigma", self.top_n_sigma, -1.0, 100.0),
            ("xtc_probability", self.xtc_probability, 0.0, 1.0),
            ("xtc_threshold", self.xtc_threshold, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 10.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
            ("dry_multiplier", self.dry_multiplier, 0.0, 100.0),
            ("dry_base", self.dry_base, 0.0, 100.0),
            ("mirostat_tau", self.mirostat_tau, 0.0, 100.0),
            ("mirostat_eta", self.mirostat_eta, 0.0, 10.0),
            ("adaptive_target", self.adaptive_target, -1.0, 1.0),
        ]
    }

    /// Checks that llama.cpp accepts every value.
    ///
    /// # Errors
    /// The field's name, and a sentence that names it, its value and its range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let decay = [("adaptive_decay", self.adaptive_decay, 0.0, 0.99)];
        for (name, value, low, high) in self.ranges().into_iter().chain(decay) {
            // A NaN is in no range.
            if let Some(v) = value
                && !(low..=high).contains(&v)
            {
                let message = format!("{name} = {v}: must lie between {low} and {high}");
                return Err((name, message));
            }
        }
        if let Some(version @ 3..) = self.mirostat {
            let message = format!("mirostat = {version}: must be 0 (off), 1 or 2");
            return Err(("mirostat", message));
        }
        if let Some(samplers) = &self.samplers
            && (samplers.is_empty() || samplers.len() > SAMPLERS_MAX)
        {
            let message = format!("samplers: name 1 to {SAMPLERS_MAX} of them");
            return Err(("samplers", message));
        }
        let is_good = |text: &String| (1..=BREAKER_BYTES_MAX).contains(&text.len());
        let no_nul = |text: &String| !text.contains('\0');
        if let Some(breakers) = &self.dry_sequence_breakers
            && !(breakers.len() <= BREAKERS_MAX
                && breakers.iter().all(|text| is_good(text) && no_nul(text)))
        {
            let message = format!(
                "dry_sequence_breakers: at most {BREAKERS_MAX} texts of 1 to \
                 {BREAKER_BYTES_MAX} bytes without NUL"
            );
            return Err(("dry_sequence_breakers", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_parsed_from_names_and_letters() {
        for (sampler, name, letter) in NAMES {
            assert_eq!(name.parse(), Ok(sampler));
            assert_eq!(name.replace('_', "-").to_uppercase().parse(), Ok(sampler));
            assert_eq!(SamplerName::of_letter(letter), Ok(sampler));
            assert_eq!(serde_json::to_value(sampler).unwrap(), name);
        }
        assert_eq!("temp".parse(), Ok(SamplerName::Temperature));
        assert!(
            "top_q"
                .parse::<SamplerName>()
                .unwrap_err()
                .contains("top_k")
        );
        assert!(SamplerName::of_letter('q').is_err());
    }

    #[test]
    fn every_number_out_of_its_range_is_named() {
        let good = Sampling::default();
        assert_eq!(good.check(), Ok(()));
        // Through JSON, so that a mistyped field name in the table fails the test.
        for (name, _, low, high) in good.ranges() {
            for (value, is_good) in [
                (low, true),
                (high, true),
                (low - 0.5, false),
                (high + 0.5, false),
            ] {
                let json = serde_json::json!({name: value});
                let sampling: Sampling = serde_json::from_value(json).unwrap();
                assert_ne!(sampling, good, "{name}");
                match sampling.check() {
                    Ok(()) => assert!(is_good, "{name} = {value}"),
                    Err((field, message)) => {
                        assert!(
                            !is_good && field == name && message.contains(name),
                            "{message}"
                        );
                    }
                }
            }
        }
        let nan = Sampling {
            top_p: Some(f32::NAN),
            ..Sampling::default()
        };
        assert_eq!(nan.check().unwrap_err().0, "top_p");
        for (json, name) in [
            (serde_json::json!({"mirostat": 3}), "mirostat"),
            (serde_json::json!({"adaptive_decay": 1}), "adaptive_decay"),
            (serde_json::json!({"samplers": []}), "samplers"),
            (
                serde_json::json!({"dry_sequence_breakers": [""]}),
                "dry_sequence_breakers",
            ),
            (
                serde_json::json!({"dry_sequence_breakers": ["a\u{0}"]}),
                "dry_sequence_breakers",
            ),
        ] {
            let sampling: Sampling = serde_json::from_value(json).unwrap();
            assert_eq!(sampling.check().unwrap_err().0, name);
        }
    }

    #[test]
    fn request_values_override_defaults() {
        let request = Sampling {
            temperature: Some(0.0),
            ignore_eos: true,
            ..Sampling::default()
        };
        let others = Sampling {
            temperature: Some(0.7),
            mirostat: Some(2),
            samplers: Some(vec![SamplerName::TopK]),
            ..Sampling::default()
        };
        let both = request.or(&others);
        let expected = Sampling {
            temperature: Some(0.0),
            ignore_eos: true,
            ..others
        };
        assert_eq!(both, expected);
    }
}
