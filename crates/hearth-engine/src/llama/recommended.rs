//! The sampling that a model file recommends: its keys `general.sampling.*`, as llama.cpp
//! reads them (`common_init_sampler_from_model`).

use hearth_proto::{SamplerName, Sampling};

/// The sampling from the file's keys; `value` returns a key's value as text. A value that
/// is not a finite number is ignored; if a value is out of range, all are ignored, with a
/// warning.
pub(super) fn recommended(value: impl Fn(&str) -> Option<String>) -> Sampling {
    let text = |key: &str| value(&format!("general.sampling.{key}"));
    let number = |key: &str| {
        let number = text(key)?.trim().parse::<f32>().ok()?;
        Some(number).filter(|n| n.is_finite())
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as saturates: below 0 is off in llama.cpp, and so is 0"
    )]
    let whole = |key: &str| number(key).map(|n| n as u32);
    let all = Sampling {
        samplers: text("sequence").and_then(|names| sequence(&names)),
        top_k: whole("top_k"),
        top_p: number("top_p"),
        min_p: number("min_p"),
        xtc_probability: number("xtc_probability"),
        xtc_threshold: number("xtc_threshold"),
        temperature: number("temp"),
        // -1 means the whole context; the samplers limit it to `LAST_N_MAX`.
        repeat_last_n: match number("penalty_last_n") {
            Some(n) if n < 0.0 => Some(u32::MAX),
            _ => whole("penalty_last_n"),
        },
        repeat_penalty: number("penalty_repeat"),
        mirostat: whole("mirostat"),
        mirostat_tau: number("mirostat_tau"),
        mirostat_eta: number("mirostat_eta"),
        ..Sampling::default()
    };
    match all.check() {
        Ok(()) => all,
        Err((_, why)) => {
            log::warn!("the model file's general.sampling is not used: {why}");
            Sampling::default()
        }
    }
}

/// Names separated by semicolons; unknown ones are skipped, as in llama.cpp.
fn sequence(names: &str) -> Option<Vec<SamplerName>> {
    let parsed = names.split(';').filter_map(|name| {
        let sampler = name.trim().parse::<SamplerName>();
        sampler
            .map_err(|why| log::warn!("general.sampling.sequence: {why}"))
            .ok()
    });
    Some(parsed.collect()).filter(|all: &Vec<_>| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Sampling {
        recommended(|key| {
            let found = pairs
                .iter()
                .find(|(name, _)| key == format!("general.sampling.{name}"));
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_recommended_key_is_read() {
        let given = of(&[
            ("sequence", "top_k;temperature;unheard_of;min-p"),
            ("top_k", "64"),
            ("top_p", "0.95"),
            ("min_p", "0.01"),
            ("xtc_probability", "0.5"),
            ("xtc_threshold", "0.2"),
            ("temp", "0.6"),
            ("penalty_last_n", "128"),
            ("penalty_repeat", "1.05"),
            ("mirostat", "2"),
            ("mirostat_tau", "4.5"),
            ("mirostat_eta", "0.2"),
        ]);
        let expected = Sampling {
            samplers: Some(vec![
                SamplerName::TopK,
                SamplerName::Temperature,
                SamplerName::MinP,
            ]),
            top_k: Some(64),
            top_p: Some(0.95),
            min_p: Some(0.01),
            xtc_probability: Some(0.5),
            xtc_threshold: Some(0.2),
            temperature: Some(0.6),
            repeat_last_n: Some(128),
            repeat_penalty: Some(1.05),
            mirostat: Some(2),
            mirostat_tau: Some(4.5),
            mirostat_eta: Some(0.2),
            ..Sampling::default()
        };
        assert_eq!(given, expected);
    }

    #[test]
    fn invalid_recommendations_are_ignored() {
        assert_eq!(
            of(&[("temp", "NaN"), ("top_k", "many")]),
            Sampling::default()
        );
        assert_eq!(of(&[("top_p", "7"), ("top_k", "40")]), Sampling::default());
        assert_eq!(of(&[("sequence", "none;such")]), Sampling::default());
        assert_eq!(of(&[("top_k", "-1")]).top_k, Some(0));
        assert_eq!(
            of(&[("penalty_last_n", "-1")]).repeat_last_n,
            Some(u32::MAX)
        );
    }
}
