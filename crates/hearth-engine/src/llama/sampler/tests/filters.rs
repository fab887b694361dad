//! What each stage leaves of a distribution.

use super::*;

#[test]
fn each_filter_keeps_the_tokens_of_its_definition() {
    let logits = of(&[0.05, 0.5, 0.1, 0.3, 0.04, 0.01]);
    let filter = |change: &dyn Fn(&mut Sampling)| {
        let mut sampling = at(1.0);
        change(&mut sampling);
        left(&sampling, &logits)
    };
    assert_eq!(filter(&|_| ()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(filter(&|s| s.top_k = Some(2)), [1, 3]);
    assert_eq!(filter(&|s| s.top_k = Some(0)).len(), 6);
    assert_eq!(filter(&|s| s.top_p = Some(0.85)), [1, 2, 3]);
    assert_eq!(filter(&|s| s.min_p = Some(0.15)), [1, 2, 3]);
    // The entropy is 1.26 nats; -ln p is 1.20 for token 3 and 0.69 for token 1.
    assert_eq!(filter(&|s| s.typical_p = Some(0.25)), [3]);
    assert_eq!(filter(&|s| s.typical_p = Some(0.7)), [1, 3]);
    // Logits of a standard deviation of 1.30: the largest is -0.69, the next -1.20, -2.30.
    assert_eq!(filter(&|s| s.top_n_sigma = Some(0.5)), [1, 3]);
    assert_eq!(filter(&|s| s.top_n_sigma = Some(-1.0)).len(), 6);
    let keep = filter(&|s| {
        s.top_p = Some(0.1);
        s.min_keep = Some(3);
    });
    assert_eq!(keep, [1, 2, 3]);
    // Of the tokens above the threshold, the least likely stays, and all tokens below it.
    let xtc = |probability, threshold| {
        filter(&|s| {
            s.xtc_probability = Some(probability);
            s.xtc_threshold = Some(threshold);
        })
    };
    assert_eq!(xtc(1.0, 0.09), [0, 2, 4, 5]);
    assert_eq!(xtc(0.0, 0.09).len(), 6);
    assert_eq!(xtc(1.0, 0.51).len(), 6);
}

#[test]
fn xtc_applies_with_its_probability() {
    let logits = of(&[0.6, 0.3, 0.1]);
    let sampling = Sampling {
        xtc_probability: Some(0.25),
        xtc_threshold: Some(0.2),
        ..at(1.0)
    };
    let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
    let mut without = 0;
    for _ in 0..2000 {
        without += usize::from(logits_left(&mut sampler, &logits).len() == 2);
        sampler.accept(&[0], true);
    }
    assert!((440..560).contains(&without), "{without} of 2000");
}

#[test]
fn the_temperature_follows_the_entropy() {
    let spread = |temperature: f32, range: Option<f32>, logits: &[f32]| {
        let sampling = Sampling {
            dynatemp_range: range,
            ..at(temperature)
        };
        let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
        let left = logits_left(&mut sampler, logits);
        left[0].1 - left[1].1
    };
    let flat = of(&[0.26, 0.25, 0.25, 0.24]);
    let steep = of(&[0.97, 0.01, 0.01, 0.01]);
    for (logits, is_hotter) in [(flat, true), (steep, false)] {
        let plain = spread(1.0, None, &logits);
        let dynamic = spread(1.0, Some(0.5), &logits);
        assert_eq!(dynamic < plain, is_hotter, "{dynamic} {plain}");
        // Within 0.5 to 1.5.
        assert!((plain / 1.5 - 1e-4..plain / 0.5 + 1e-4).contains(&dynamic));
    }
}

#[test]
fn penalties_apply_to_the_configured_window() {
    let sampling = Sampling {
        repeat_penalty: Some(2.0),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.25),
        repeat_last_n: Some(3),
        ..at(1.0)
    };
    let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
    sampler.accept(&[0, 1, 2, 2], true);
    let left = logits_left(&mut sampler, &[4.0, 4.0, -4.0, 4.0]);
    let expected = [4.0, 4.0 / 2.0 - 0.75, -4.0 * 2.0 - 1.0, 4.0];
    for ((_, logit), expected) in left.into_iter().zip(expected) {
        assert!((logit - expected).abs() < 1e-5, "{logit} {expected}");
    }
}

#[test]
fn adaptive_p_prefers_what_is_near_its_target() {
    let logits = of(&[0.55, 0.25, 0.1, 0.06, 0.04]);
    let mean = |target: f32| {
        let sampling = Sampling {
            samplers: Some(vec![SamplerName::AdaptiveP]),
            adaptive_target: Some(target),
            ..at(1.0)
        };
        let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
        let mut sum = 0.0;
        for _ in 0..1000 {
            let token = sampler.choose(&logits, None, None).unwrap().token;
            sampler.accept(&[token], true);
            sum += logits[usize::try_from(token).unwrap()].exp();
        }
        sum / 1000.0
    };
    let plain: f32 = logits.iter().map(|l| l.exp().powi(2)).sum();
    assert!((mean(-1.0) - plain).abs() < 0.03, "off: {}", mean(-1.0));
    for target in [0.15, 0.3, 0.5] {
        assert!(
            (mean(target) - target).abs() < 0.05,
            "{target}: {}",
            mean(target)
        );
    }
}

#[test]
fn at_temperature_0_the_likeliest_is_chosen() {
    for step in 0..50 {
        let logits = logits(300, step);
        let likeliest = argmax(&logits);
        let filters = Sampling {
            top_k: Some(40),
            top_p: Some(0.9),
            min_p: Some(0.1),
            ..at(0.0)
        };
        // The second one goes through the filters: its penalty has no earlier tokens.
        let penalty = Sampling {
            repeat_penalty: Some(1.5),
            ..filters.clone()
        };
        for sampling in [filters, penalty] {
            let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
            let token = sampler.choose(&logits, None, None).unwrap().token;
            assert_eq!(Some(token), likeliest);
        }
    }
}

#[test]
fn biases_reach_their_tokens() {
    let model = small();
    let biased = |logit_bias: Vec<(Biased, f32)>, ignore_eos| {
        let sampling = Sampling {
            logit_bias,
            ignore_eos,
            ..at(0.0)
        };
        let mut sampler = Sampler::new(&model, &sampling)?;
        let mut logits = vec![0.0; 300];
        // The end token is the likeliest.
        logits[258] = 5.0;
        Ok::<_, Failure>(sampler.choose(&logits, None, None)?.token)
    };
    assert_eq!(biased(Vec::new(), false).unwrap(), 258);
    assert_eq!(biased(Vec::new(), true).unwrap(), 0);
    let x = i32::from(b'x');
    assert_eq!(biased(vec![(Biased::Token(x), 5.5)], false).unwrap(), x);
    let text = |text: &str, bias| (Biased::Text(text.into()), bias);
    assert_eq!(biased(vec![text("x", 100.0)], false).unwrap(), x);
    let both = vec![text("xy", 6.0), (Biased::Token(x), -100.0)];
    assert_eq!(biased(both, false).unwrap(), i32::from(b'y'));
    for (bias, part) in [
        ((Biased::Token(300), 1.0), "tokens 0 to 299"),
        ((Biased::Token(-1), 1.0), "tokens 0 to 299"),
        (text("x", 101.0), "logit_bias 101"),
    ] {
        let error = biased(vec![bias], false).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn unusable_logits_are_an_error() {
    for sampling in [at(0.0), at(1.0)] {
        let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
        for logits in [[f32::NAN; 2], [f32::NEG_INFINITY; 2]] {
            assert!(sampler.choose(&logits, None, None).is_err());
        }
        let token = sampler.choose(&[f32::NAN, -1.0], None, None).unwrap().token;
        assert_eq!(token, 1);
    }
    let mut refused = at(1.0);
    refused.top_p = Some(1.5);
    let error = Sampler::new(&small(), &refused).unwrap_err();
    assert!(error.message.contains("top_p"), "{error}");
}

/// As an engine that resumes an answer of one that crashed.
#[test]
fn a_resumed_answer_continues_with_the_same_draws() {
    let sampling = Sampling {
        xtc_probability: Some(0.5),
        repeat_penalty: Some(1.2),
        ..at(1.0)
    };
    let answer = |resumed: &[Token], upto: u32| {
        let mut sampler = Sampler::assemble(None, &sampling, Vec::new());
        sampler.accept(resumed, true);
        let mut all = resumed.to_vec();
        for step in u32::try_from(resumed.len()).unwrap()..upto {
            let token = sampler
                .choose(&logits(300, step), None, None)
                .unwrap()
                .token;
            sampler.accept(&[token], true);
            all.push(token);
        }
        all
    };
    let whole = answer(&[], 40);
    assert_eq!(answer(&whole[..25], 40), whole);
}

#[test]
fn log_probabilities_sum_to_one() {
    let logits = [1.0, 3.0, 2.0, f32::NAN, f32::NEG_INFINITY];
    let (_, top) = log_probabilities(&logits[..3], 1, 2);
    assert_eq!([top[0].0, top[1].0], [1, 2]);
    let (own, all) = log_probabilities(&logits[..3], 1, 20);
    let sum: f32 = all.iter().map(|(_, l)| l.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5 && (own - all[0].1).abs() < 1e-6);
    assert_eq!(log_probabilities(&logits, 0, 0).1, []);
    // NaN and minus infinity have a log-probability that can be sent.
    let (own, all) = log_probabilities(&logits, 4, 20);
    let likely: f32 = all.iter().map(|(_, l)| l.exp()).sum();
    assert!((likely - 1.0).abs() < 1e-5, "{all:?}");
    assert_eq!((own, all.len()), (IMPOSSIBLE, 4));
    for logits in [[f32::NAN; 2], [f32::NEG_INFINITY; 2], [f32::INFINITY; 2]] {
        let (own, all) = log_probabilities(&logits, 1, 20);
        assert!(
            own.is_finite() && all.iter().all(|(_, l)| l.is_finite()),
            "{logits:?}"
        );
    }
}
