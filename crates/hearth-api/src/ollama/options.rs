//! `options`: sampling, and the number of tokens.

use hearth_proto::{Failure, Sampling};
use serde_json::{Map, Value};

use crate::fields::{field, sampling, stop};

/// Integers among the options. Some have no effect here (the machine's owner configures how
/// a model runs, and `num_ctx` never reloads it), but are checked all the same.
const WHOLE: [&str; 11] = [
    "top_k",
    "repeat_last_n",
    "mirostat",
    "seed",
    "num_predict",
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
];

/// The options that are used.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub sampling: Sampling,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
}

/// Reads `options`. Unknown ones are ignored, as Ollama does.
pub(super) fn options(body: &Map<String, Value>) -> Result<Options, Failure> {
    let mut options = match body.get("options") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Err(Failure::invalid_field("options", "must be an object")),
    };
    field(&options, "use_mmap").flag()?;
    for name in WHOLE {
        if let Some(number) = field(&options, name).integer()? {
            let number = match (name, number) {
                // Negative: the whole context.
                ("repeat_last_n", ..0) => u32::MAX.into(),
                ("top_k" | "repeat_last_n" | "mirostat", n) => n.clamp(0, u32::MAX.into()),
                (_, n) => n,
            };
            options.insert(name.to_owned(), number.into());
        }
    }
    let number = |name| options.get(name).and_then(Value::as_i64);
    let max_tokens = number("num_predict").map(|n| match n {
        // Until the model ends the answer, or the context is full.
        ..=0 => u32::MAX,
        n => u32::try_from(n).unwrap_or(u32::MAX),
    });
    if number("seed").is_some_and(|seed| seed < 0) {
        // Negative: a random seed.
        options.remove("seed");
    }
    Ok(Options {
        sampling: sampling(&options)?,
        max_tokens,
        stop: stop(options.get("stop"))?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(given: &Value) -> Result<Options, Failure> {
        options(json!({"options": given}).as_object().unwrap())
    }

    #[test]
    fn all_that_the_engine_has() {
        let all = json!({
            "temperature": 0.5, "top_k": 20.0, "top_p": 0.9, "min_p": 0, "seed": 42.0,
            "num_predict": 16, "stop": ["a", "b"], "repeat_penalty": 1.1, "repeat_last_n": 33,
            "presence_penalty": 0.25, "frequency_penalty": -0.5, "num_ctx": 8192.0,
            "num_gpu": 99, "use_mmap": true, "mirostat": 1, "mirostat_tau": 4, "mirostat_eta": 0.2,
            "typical_p": 0.7, "unknown": {"x": 1}, "top": null,
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
            stop: vec!["a".into(), "b".into()],
        };
        assert_eq!(read(&all), Ok(expected));
        let none = read(&json!(null)).unwrap();
        assert_eq!(
            (none.sampling, none.max_tokens),
            (Sampling::default(), None)
        );
    }

    #[test]
    fn words_of_numbers() {
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
        let sampling = read(&json!({"top_k": -1, "repeat_last_n": -1, "seed": -1})).unwrap();
        let sampling = sampling.sampling;
        assert_eq!(
            (sampling.top_k, sampling.repeat_last_n, sampling.seed),
            (Some(0), Some(u32::MAX), None)
        );
    }

    #[test]
    fn wrong_types_are_named() {
        for (given, name) in [
            (json!([]), "`options`"),
            (json!({"temperature": "hot"}), "`temperature`"),
            (json!({"top_k": "40"}), "`top_k`"),
            (json!({"seed": true}), "`seed`"),
            (json!({"num_predict": "many"}), "`num_predict`"),
            (json!({"num_ctx": {}}), "`num_ctx`"),
            (json!({"num_thread": "all"}), "`num_thread`"),
            (json!({"stop": [1]}), "`stop`"),
            (json!({"typical_p": "x"}), "`typical_p`"),
            (json!({"use_mmap": 1}), "`use_mmap`"),
        ] {
            let error = read(&given).unwrap_err();
            assert!(error.message.contains(name), "{given}: {error}");
        }
    }
}
