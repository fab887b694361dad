//! Speed measurements of a model on this board, and the conclusions. Pure.

use serde::{Deserialize, Serialize};

use crate::governor::SpeedTable;

/// Speeds that differ relatively by less than this count as equal: measurements are noisy.
const SAME: f64 = 0.03;
/// Measurements with a larger spread than this are too disturbed to be used.
const STEADY: f64 = 0.25;
/// If all threads together reach less than this share of the best speed, memory is not
/// the cause.
const COLLAPSED: f64 = 0.7;

/// Speeds of a model on this board by thread count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The model's name.
    pub model: String,
    /// Its quantization (`Q4_0` …).
    pub quantization: String,
    /// Its parameters.
    pub parameters: u64,
    /// The cores that were used, as a list of CPUs.
    pub cores: String,
    /// Measurements of each thread count; speeds are their medians.
    pub runs: u32,
    /// When it was measured, in seconds since 1970.
    pub measured_s: u64,
    /// The largest difference between measurements of the same thread count, relative to
    /// their median.
    pub spread: f64,
    /// Speeds of 1, 2, … threads.
    pub speeds: Vec<Speed>,
}

/// Speeds with some number of threads, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Decoding of answers, one token after the other.
    pub decode: f64,
    /// Prefill of prompts.
    pub prefill: f64,
}

impl Tuning {
    /// Whether the values are plausible.
    pub fn is_sound(&self) -> bool {
        let sound = |v: f64| v.is_finite() && v > 0.0;
        let speeds = self.speeds.iter();
        !self.speeds.is_empty()
            && self.spread >= 0.0
            && speeds.clone().all(|s| sound(s.decode) && sound(s.prefill))
    }

    /// Whether the spread is small enough for the values to be used.
    pub fn is_steady(&self) -> bool {
        self.spread <= STEADY
    }

    /// Decode speeds for the governor. A speed within the noise of one with fewer threads
    /// counts as no faster.
    pub fn decode(&self) -> Option<SpeedTable> {
        SpeedTable::measured(&steps(self.speeds.iter().map(|speed| speed.decode)))
    }

    /// Thread count that decodes fastest, and its speed.
    pub fn best(&self) -> Option<(u32, f64)> {
        fastest(self.speeds.iter().map(|speed| speed.decode))
    }

    /// Thread count that computes prompts fastest, and its speed.
    pub fn best_prefill(&self) -> Option<(u32, f64)> {
        fastest(self.speeds.iter().map(|speed| speed.prefill))
    }

    /// The conclusions, as sentences.
    pub fn explain(&self) -> Vec<String> {
        let (Some((best, decode)), Some((most, prefill)), Some(one), Some(all)) = (
            self.best(),
            self.best_prefill(),
            self.speeds.first(),
            self.speeds.last(),
        ) else {
            return Vec::new();
        };
        let count = u32::try_from(self.speeds.len()).unwrap_or(u32::MAX);
        if count == 1 {
            return vec!["One core is all there is to compute on.".to_owned()];
        }
        let times = |fast: f64, slow: f64| fast / slow;
        let mut said = Vec::new();
        if !self.is_steady() {
            said.push(format!(
                "The measurements of the same thread count differ by up to {:.0} %: they are shown, but not used. Measure again when the board has nothing else to do.",
                self.spread * 100.0
            ));
        }
        if best == count {
            said.push(format!(
                "Answers are fastest with all {count} threads: {decode:.1} tokens a second, {:.1} times one thread's speed.",
                times(decode, one.decode)
            ));
        } else {
            said.push(format!(
                "Answers are fastest with {best} of {count} threads: {decode:.1} tokens a second, and {:.1} with all.",
                all.decode
            ));
        }
        let those = if most == count {
            format!("all {count} threads")
        } else {
            format!("{most} of {count} threads")
        };
        said.push(format!(
            "Prompts are read fastest with {those}: {prefill:.1} tokens a second, {:.1} times one thread's speed.",
            times(prefill, one.prefill)
        ));
        if all.decode < decode * COLLAPSED {
            said.push(
                "With all of them it is much slower: something else computes on these cores. Measure again when the board has nothing else to do."
                    .to_owned(),
            );
        }
        let fewer = self.speeds.get((best as usize).wrapping_sub(2));
        if let Some(fewer) = fewer {
            let percent = |part: f64, of: f64| (part / of * 100.0).round().min(100.0);
            said.push(format!(
                "When the board gets too warm, one thread less keeps {} % of the speed with {} % of the cores: the governor uses that now.",
                percent(fewer.decode, decode),
                percent(f64::from(best - 1), f64::from(best))
            ));
        }
        said
    }
}

/// Speeds of 1, 2, … threads; one within the noise of fewer threads counts as no faster.
fn steps(speeds: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut best: f64 = 0.0;
    let step = |speed: f64| {
        if speed > best * (1.0 + SAME) {
            best = speed;
        }
        speed.min(best)
    };
    speeds.map(step).collect()
}

/// The smallest of the fastest thread counts, and its speed.
fn fastest(speeds: impl Iterator<Item = f64>) -> Option<(u32, f64)> {
    let by_count = (1..).zip(steps(speeds));
    by_count.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The most relevant measurement for a model: its own, else that of the most similar model
/// on the same cores.
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
        // Another size with the same quantization is more similar than the same size with
        // another quantization.
        ratio.ln().abs() + 3.0 * other_form + 0.1 * other_model
    };
    tunings
        .iter()
        .filter(|tuning| tuning.cores == cores && tuning.is_steady())
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
            spread: 0.1,
            speeds: speeds
                .map(|(decode, n)| Speed {
                    decode: *decode,
                    prefill: 20.0 * f64::from(n),
                })
                .collect(),
        }
    }

    #[test]
    fn the_fewest_threads_within_the_margin_of_the_fastest_are_chosen() {
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
    fn implausible_measurements_are_refused() {
        for decode in [&[][..], &[1.0, 0.0], &[f64::NAN], &[-1.0], &[f64::INFINITY]] {
            assert!(!tuning("m", "Q4_0", 1, decode).is_sound(), "{decode:?}");
        }
    }

    #[test]
    fn the_explanation_names_the_measured_speeds() {
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
        assert!(!all.contains("something else"), "{all}");
        assert!(text(&[4.0]).contains("One core"));
        let busy = text(&[9.0, 2.0]);
        assert!(
            busy.contains("1 of 2 threads: 9.0 tokens a second, and 2.0 with all"),
            "{busy}"
        );
        assert!(busy.contains("something else computes"), "{busy}");
    }

    #[test]
    fn an_unmeasured_model_gets_the_threads_of_the_most_similar_one() {
        let tunings = [
            tuning("a", "Q4_0", 1_000, &[1.0, 2.0]),
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
        let disturbed = Tuning {
            spread: 0.5,
            ..tunings[0].clone()
        };
        assert!(disturbed.explain()[0].contains("differ by up to 50 %"));
        assert_eq!(nearest(&[disturbed], "0-3", "a", "Q4_0", 1_000), None);
    }
}
