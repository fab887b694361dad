//! What was measured of a model on this board, and what follows. Pure.

use serde::{Deserialize, Serialize};

use crate::governor::SpeedTable;

/// Speeds closer together than this are the same: machines are noisy.
const SAME: f64 = 0.03;

/// A model on this board by thread count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The model's name.
    pub model: String,
    /// Its form (`Q4_0` …).
    pub quantization: String,
    /// Its parameters.
    pub parameters: u64,
    /// The cores that computed, as a list of CPUs.
    pub cores: String,
    /// Measurements of each thread count, of which the medians are.
    pub runs: u32,
    /// When, in seconds since 1970.
    pub measured_s: u64,
    /// Of 1, 2, … threads.
    pub speeds: Vec<Speed>,
}

/// Speeds with some number of threads, in tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Of answers, one token after the other.
    pub decode: f64,
    /// Of prompts.
    pub prefill: f64,
}

impl Tuning {
    /// Whether it can have been measured.
    pub fn is_sound(&self) -> bool {
        let sound = |v: f64| v.is_finite() && v > 0.0;
        let speeds = self.speeds.iter();
        !self.speeds.is_empty() && speeds.clone().all(|s| sound(s.decode) && sound(s.prefill))
    }

    /// Decode speeds for the governor. What is within the noise of fewer threads counts
    /// as no faster.
    pub fn decode(&self) -> Option<SpeedTable> {
        let mut best: f64 = 0.0;
        let speeds = self.speeds.iter().map(|speed| {
            if speed.decode > best * (1.0 + SAME) {
                best = speed.decode;
                return best;
            }
            speed.decode.min(best)
        });
        SpeedTable::measured(&speeds.collect::<Vec<f64>>())
    }

    /// Threads that decode fastest, and their speed.
    pub fn best(&self) -> Option<(u32, f64)> {
        let most = u32::try_from(self.speeds.len()).ok()?;
        let threads = self.decode()?.fastest(most);
        let speed = self
            .speeds
            .get(usize::try_from(threads).ok()?.checked_sub(1)?)?;
        Some((threads, speed.decode))
    }

    /// What follows from it, in sentences.
    pub fn explain(&self) -> Vec<String> {
        let (Some((best, decode)), Some(one), Some(all)) =
            (self.best(), self.speeds.first(), self.speeds.last())
        else {
            return Vec::new();
        };
        let count = self.speeds.len();
        if count == 1 {
            return vec!["One core is all there is to compute on.".to_owned()];
        }
        let percent = |part: f64, of: f64| (part / of * 100.0).round();
        let mut said = Vec::new();
        if usize::try_from(best) == Ok(count) {
            said.push(format!(
                "Answers are fastest with all {count} threads: {decode:.1} tokens a second, {:.1} times one thread's speed.",
                decode / one.decode
            ));
        } else {
            said.push(format!(
                "Answers are fastest with {best} of {count} threads: {decode:.1} tokens a second. More bring nothing ({count}: {:.1}), because the memory is the bound: the others stay idle while answers are written.",
                all.decode
            ));
        }
        said.push(format!(
            "Prompts are read with all {count} threads: {:.1} tokens a second, {:.1} times one thread's speed.",
            all.prefill,
            all.prefill / one.prefill
        ));
        if best > 1 {
            let fewer = usize::try_from(best).unwrap_or(count) - 2;
            let slower = self.speeds.get(fewer).copied().unwrap_or(*one);
            said.push(format!(
                "When the board gets too warm, one thread less keeps {} % of the speed with {} % of the cores: the governor knows that now.",
                percent(slower.decode, decode).min(100.0),
                percent(f64::from(best - 1), f64::from(best))
            ));
        }
        said
    }
}

/// The one that says most of a model: its own, else that of the most similar model on the
/// same cores.
pub fn nearest<'a>(
    tunings: &'a [Tuning],
    cores: &str,
    model: &str,
    quantization: &str,
    parameters: u64,
) -> Option<&'a Tuning> {
    #[expect(clippy::cast_precision_loss, reason = "only compared")]
    let distance = |tuning: &Tuning| {
        let ratio = tuning.parameters.max(1) as f64 / parameters.max(1) as f64;
        let other_model = f64::from(u8::from(tuning.model != model));
        let other_form = f64::from(u8::from(tuning.quantization != quantization));
        // A model of another size in the same form is more alike than the other way round.
        ratio.ln().abs() + 3.0 * other_form + 0.1 * other_model
    };
    tunings
        .iter()
        .filter(|tuning| tuning.cores == cores)
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(model: &str, quantization: &str, parameters: u64, decode: &[f64]) -> Tuning {
        let speeds = decode.iter().zip(1u8..);
        Tuning {
            model: model.to_owned(),
            quantization: quantization.to_owned(),
            parameters,
            cores: "0-3".to_owned(),
            runs: 3,
            measured_s: 0,
            speeds: speeds
                .map(|(decode, n)| Speed {
                    decode: *decode,
                    prefill: 20.0 * f64::from(n),
                })
                .collect(),
        }
    }

    #[test]
    fn the_fewest_threads_of_the_fastest() {
        for (decode, best) in [
            (&[4.0, 7.0, 9.0, 10.0][..], 4),
            (&[4.0, 7.0, 9.0, 8.5], 3),
            // Within the noise.
            (&[4.0, 7.0, 7.1, 7.15], 2),
            (&[4.0, 7.0, 7.1, 7.4], 4),
            (&[5.0], 1),
        ] {
            let tuning = tuning("m", "Q4_0", 1, decode);
            assert!(tuning.is_sound());
            assert_eq!(tuning.best().unwrap().0, best, "{decode:?}");
        }
    }

    #[test]
    fn what_cannot_have_been_measured() {
        for decode in [&[][..], &[1.0, 0.0], &[f64::NAN], &[-1.0], &[f64::INFINITY]] {
            assert!(!tuning("m", "Q4_0", 1, decode).is_sound(), "{decode:?}");
        }
    }

    #[test]
    fn it_is_explained() {
        let text = |decode: &[f64]| tuning("m", "Q4_0", 1, decode).explain().join("\n");
        let fewer = text(&[4.0, 7.0, 9.0, 8.5]);
        assert!(
            fewer.contains("fastest with 3 of 4 threads: 9.0"),
            "{fewer}"
        );
        assert!(
            fewer.contains("keeps 78 % of the speed with 67 % of the cores"),
            "{fewer}"
        );
        let all = text(&[4.0, 7.0, 9.0, 10.0]);
        assert!(
            all.contains("all 4 threads: 10.0 tokens a second, 2.5 times"),
            "{all}"
        );
        assert!(text(&[4.0]).contains("One core"));
    }

    #[test]
    fn the_most_similar_model_speaks_for_another() {
        let tunings = [
            tuning("a", "Q4_0", 1_000, &[1.0]),
            tuning("b", "Q4_0", 500, &[1.0]),
            tuning("c", "Q8_0", 1_000, &[1.0]),
        ];
        let name = |model, form, size| {
            nearest(&tunings, "0-3", model, form, size).map(|t| t.model.as_str())
        };
        assert_eq!(name("a", "Q4_0", 1_000), Some("a"));
        assert_eq!(name("x", "Q4_0", 600), Some("b"));
        assert_eq!(name("x", "Q8_0", 500), Some("c"));
        assert_eq!(name("b", "Q4_0", 500), Some("b"));
        assert_eq!(nearest(&tunings, "0-1", "a", "Q4_0", 1_000), None);
    }
}
