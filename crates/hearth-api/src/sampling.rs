//! The sampling options. Their names are llama.cpp's, and the same in all APIs.

use hearth_proto::{Failure, Priority, SamplerName, Sampling};
use serde::Deserialize;
use serde::de::{Error, SeqAccess};

use crate::read::join;
use crate::scalars::{Flag, Float, Text, Whole, Window};
use crate::shape::{List, Shape, deserialize_by_shape, refusal};

/// The options that all APIs read alike; `top_k`, `repeat_last_n`, `mirostat` and `seed` are
/// not among them.
#[derive(Debug, Deserialize)]
pub(crate) struct SamplingFields {
    temperature: Option<Float>,
    dynatemp_range: Option<Float>,
    dynatemp_exponent: Option<Float>,
    top_p: Option<Float>,
    min_p: Option<Float>,
    typical_p: Option<Float>,
    top_n_sigma: Option<Float>,
    xtc_probability: Option<Float>,
    xtc_threshold: Option<Float>,
    min_keep: Option<Whole>,
    repeat_penalty: Option<Float>,
    presence_penalty: Option<Float>,
    frequency_penalty: Option<Float>,
    dry_multiplier: Option<Float>,
    dry_base: Option<Float>,
    dry_allowed_length: Option<Whole>,
    dry_penalty_last_n: Option<Window>,
    dry_sequence_breakers: Option<List<Text>>,
    mirostat_tau: Option<Float>,
    mirostat_eta: Option<Float>,
    adaptive_target: Option<Float>,
    adaptive_decay: Option<Float>,
    samplers: Option<Samplers>,
    pub ignore_eos: Option<Flag>,
}

impl SamplingFields {
    /// The options, without `ignore_eos`.
    pub(crate) fn sampling(self) -> Sampling {
        macro_rules! sampling {
            ($($name:ident)*) => {
                Sampling {
                    $($name: self.$name.map(Into::into),)*
                    ..Sampling::default()
                }
            };
        }
        sampling!(
            temperature dynatemp_range dynatemp_exponent top_p min_p typical_p top_n_sigma
            xtc_probability xtc_threshold min_keep repeat_penalty presence_penalty
            frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n
            dry_sequence_breakers mirostat_tau mirostat_eta adaptive_target adaptive_decay
            samplers
        )
    }
}

/// Refuses values that llama.cpp does not accept; the options are at this place in the
/// request.
pub(crate) fn checked(sampling: Sampling, place: &str) -> Result<Sampling, Failure> {
    match sampling.check() {
        Ok(()) => Ok(sampling),
        Err((name, why)) => Err(Failure::invalid(why).about(join(place, name))),
    }
}

/// Samplers by name, or as a text with one letter for each: llama.cpp accepts both.
#[derive(Debug)]
pub(crate) struct Samplers(Vec<SamplerName>);

/// The request's class.
#[derive(Debug)]
pub(crate) struct Class(pub Priority);

deserialize_by_shape!(Samplers Class);

impl From<Samplers> for Vec<SamplerName> {
    fn from(samplers: Samplers) -> Self {
        samplers.0
    }
}

/// Longer texts name no sampler, and an error would quote them.
const SAMPLER_BYTES_MAX: usize = 40;

impl<'de> Shape<'de> for Samplers {
    const WHAT: &'static str = "must be a list of names, or a text of letters";

    fn text<E: Error>(letters: &str) -> Result<Self, E> {
        let samplers = letters.chars().map(SamplerName::of_letter).collect();
        unknown(samplers).map(Self)
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut samplers = Vec::new();
        while let Some(Text(name)) = list.next_element()? {
            if name.len() > SAMPLER_BYTES_MAX {
                return Err(refusal::<Self, A::Error>());
            }
            samplers.push(unknown(name.parse())?);
        }
        Ok(Self(samplers))
    }
}

fn unknown<T, E: Error>(parsed: Result<T, String>) -> Result<T, E> {
    parsed.map_err(|why| E::custom(format_args!("cannot be used: {why}")))
}

impl Shape<'_> for Class {
    const WHAT: &'static str = "must be \"interactive\", \"normal\" or \"background\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        word.parse().map(Self).map_err(|_| refusal::<Self, E>())
    }
}
