//! `options`: sampling, and the number of tokens.

use hearth_proto::{Failure, Lora, Sampling};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::lora::Loras;
use crate::read::read_in;
use crate::sampling::{SamplingFields, checked};
use crate::scalars::{Flag, Integer, Stop};

/// Where the options are in a request.
const PLACE: &str = "options";

/// The options that are not in all APIs, or that Ollama reads differently.
#[derive(Debug, Deserialize)]
struct OptionFields {
    top_k: Option<Integer>,
    repeat_last_n: Option<Integer>,
    mirostat: Option<Integer>,
    seed: Option<Integer>,
    num_predict: Option<Integer>,
    num_ctx: Option<Integer>,
    stop: Option<Stop>,
    lora: Option<Loras>,
}

/// Options without effect here: the machine's owner configures how a model runs. They are
/// checked all the same.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only checked")]
struct CheckedFields {
    num_keep: Option<Integer>,
    num_batch: Option<Integer>,
    num_gpu: Option<Integer>,
    main_gpu: Option<Integer>,
    num_thread: Option<Integer>,
    use_mmap: Option<Flag>,
}

/// The options that are used.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub sampling: Sampling,
    pub max_tokens: Option<u32>,
    /// The most tokens of prompt and answer together.
    pub context_max: Option<u32>,
    pub stop: Vec<String>,
    pub lora: Vec<Lora>,
}

/// Reads the fields of `options`. Unknown ones are ignored, as Ollama does.
pub(super) fn options(options: &Map<String, Value>) -> Result<Options, Failure> {
    options_at(PLACE, options)
}

/// The same for options at another place of a request.
pub(super) fn options_at(place: &str, options: &Map<String, Value>) -> Result<Options, Failure> {
    read_in::<CheckedFields>(place, options)?;
    let fields: OptionFields = read_in(place, options)?;
    let shared: SamplingFields = read_in(place, options)?;
    let ignore_eos = shared.ignore_eos.is_some_and(Into::into);
    let sampling = Sampling {
        top_k: fields.top_k.map(clamped),
        // Negative: the whole context.
        repeat_last_n: fields.repeat_last_n.map(|n| natural(n).unwrap_or(u32::MAX)),
        mirostat: fields.mirostat.map(clamped),
        // Negative: a random seed.
        seed: fields.seed.filter(|seed| seed.0 >= 0).map(low_bits),
        ignore_eos,
        ..shared.sampling()
    };
    Ok(Options {
        sampling: checked(sampling, place)?,
        max_tokens: fields.num_predict.map(|n| match n.0 {
            // Until the model ends the answer, or the context is full.
            ..=0 => u32::MAX,
            n => u32::try_from(n).unwrap_or(u32::MAX),
        }),
        // Zero and below: as the model was loaded. It is never loaded again for this.
        context_max: fields.num_ctx.and_then(natural).filter(|n| *n > 0),
        stop: fields.stop.map(Into::into).unwrap_or_default(),
        lora: fields.lora.map(Into::into).unwrap_or_default(),
    })
}

/// A number as it is, or the largest; `None` for a negative one.
fn natural(number: Integer) -> Option<u32> {
    (number.0 >= 0).then(|| u32::try_from(number.0).unwrap_or(u32::MAX))
}

fn clamped(number: Integer) -> u32 {
    natural(number).unwrap_or(0)
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn low_bits(number: Integer) -> u32 {
    number.0.cast_unsigned() as u32
}

#[cfg(test)]
mod tests {
    use hearth_proto::AdapterRef;
    use serde_json::json;

    use super::*;

    fn read(given: &Value) -> Result<Options, Failure> {
        options(given.as_object().unwrap())
    }

    #[test]
    fn all_supported_options_are_read() {
        let all = json!({
            "temperature": 0.5, "top_k": 20.0, "top_p": 0.9, "min_p": 0, "seed": 42.0,
            "num_predict": 16, "stop": ["a", "b"], "repeat_penalty": 1.1, "repeat_last_n": 33,
            "presence_penalty": 0.25, "frequency_penalty": -0.5, "num_ctx": 8192.0,
            "num_gpu": 99, "use_mmap": true, "mirostat": 1, "mirostat_tau": 4, "mirostat_eta": 0.2,
            "typical_p": 0.7, "unknown": {"x": 1}, "top": null,
            "lora": {"tone": 0.5},
        });
        let expected = Options {
            sampling: Sampling {
                temperature: Some(0.5),
                top_k: Some(20),
                top_p: Some(0.9),
                min_p: Some(0.0),
                repeat_penalty: Some(1.1),
                repeat_last_n: Some(33),
                presence_penalty: Some(0.25),
                frequency_penalty: Some(-0.5),
                seed: Some(42),
                mirostat: Some(1),
                mirostat_tau: Some(4.0),
                mirostat_eta: Some(0.2),
                typical_p: Some(0.7),
                ..Sampling::default()
            },
            max_tokens: Some(16),
            context_max: Some(8192),
            stop: vec!["a".into(), "b".into()],
            lora: vec![Lora {
                adapter: AdapterRef::Name("tone".into()),
                scale: 0.5,
            }],
        };
        assert_eq!(read(&all), Ok(expected));
        let none = read(&json!({})).unwrap();
        assert_eq!(
            (none.sampling, none.max_tokens),
            (Sampling::default(), None)
        );
    }

    #[test]
    fn special_numbers_have_ollamas_meaning() {
        for (given, max_tokens) in [
            (json!({"num_predict": -1}), Some(u32::MAX)),
            (json!({"num_predict": -2}), Some(u32::MAX)),
            (json!({"num_predict": 0}), Some(u32::MAX)),
            (json!({"num_predict": 1e30}), Some(u32::MAX)),
            (json!({"num_predict": 1}), Some(1)),
            (json!({"num_predict": null}), None),
        ] {
            assert_eq!(read(&given).unwrap().max_tokens, max_tokens, "{given}");
        }
        for (given, context_max) in [
            (json!({"num_ctx": 512.0}), Some(512)),
            (json!({"num_ctx": 1e30}), Some(u32::MAX)),
            (json!({"num_ctx": 0}), None),
            (json!({"num_ctx": -1}), None),
            (json!({}), None),
        ] {
            assert_eq!(read(&given).unwrap().context_max, context_max, "{given}");
        }
        let sampling = read(&json!({"top_k": -1, "repeat_last_n": -1, "seed": -1})).unwrap();
        let sampling = sampling.sampling;
        assert_eq!(
            (sampling.top_k, sampling.repeat_last_n, sampling.seed),
            (Some(0), Some(u32::MAX), None)
        );
    }

    #[test]
    fn errors_name_the_option_of_a_wrong_type() {
        for (given, name) in [
            (json!({"temperature": "hot"}), "`options.temperature`"),
            (json!({"top_k": "40"}), "`options.top_k`"),
            (json!({"seed": true}), "`options.seed`"),
            (json!({"num_predict": "many"}), "`options.num_predict`"),
            (json!({"num_ctx": {}}), "`options.num_ctx`"),
            (json!({"num_thread": "all"}), "`options.num_thread`"),
            (json!({"stop": [1]}), "`options.stop[0]`"),
            (json!({"typical_p": "x"}), "`options.typical_p`"),
            (json!({"use_mmap": 1}), "`options.use_mmap`"),
            (json!({"lora": "x"}), "`options.lora`"),
        ] {
            let error = read(&given).unwrap_err();
            assert!(error.message.contains(name), "{given}: {error}");
        }
    }
}
