//! The same tokens as llama.cpp's own samplers.

use super::*;

#[test]
fn one_seed_gives_llama_cpps_tokens() {
    let dist = || LlamaSampler::dist(SEED);
    agree("dist", &at(1.0), None, vec![dist()]);
    agree(
        "temperature",
        &at(0.6),
        None,
        vec![LlamaSampler::temp(0.6), dist()],
    );
    let all = Sampling {
        top_k: Some(60),
        top_p: Some(0.95),
        min_p: Some(0.02),
        typical_p: Some(0.9),
        top_n_sigma: Some(3.0),
        xtc_probability: Some(0.5),
        xtc_threshold: Some(0.1),
        dynatemp_range: Some(0.3),
        dynatemp_exponent: Some(1.2),
        repeat_penalty: Some(1.1),
        repeat_last_n: Some(40),
        presence_penalty: Some(0.2),
        frequency_penalty: Some(0.1),
        min_keep: Some(2),
        ..at(0.9)
    };
    // The order of common_params_sampling.
    let stages = vec![
        LlamaSampler::penalties(300, 40, 1.1, 0.1, 0.2),
        LlamaSampler::top_n_sigma(3.0),
        LlamaSampler::top_k(60),
        LlamaSampler::typical(0.9, 2),
        LlamaSampler::top_p(0.95, 2),
        LlamaSampler::min_p(0.02, 2),
        LlamaSampler::xtc(0.5, 0.1, 2, SEED),
        LlamaSampler::temp_ext(0.9, 0.3, 1.2),
        dist(),
    ];
    agree("all", &all, None, stages);
    let own = Sampling {
        samplers: Some(vec![
            SamplerName::Temperature,
            SamplerName::TopP,
            SamplerName::TopK,
        ]),
        top_k: Some(5),
        top_p: Some(0.8),
        // Not in `samplers`.
        min_p: Some(0.9),
        ..at(2.0)
    };
    let stages = vec![
        LlamaSampler::temp(2.0),
        LlamaSampler::top_p(0.8, 0),
        LlamaSampler::top_k(5),
        dist(),
    ];
    agree("an order of one's own", &own, None, stages);
}

/// A whole answer of a real model: both samplers use its logits. Without XTC: llama.cpp
/// draws nothing for it where one token is left, and is one draw behind from there on.
#[test]
fn a_real_model_s_answer_is_llama_cpps() {
    let Some(path) = real_model("smollm2-135m-instruct-q4_1.gguf") else {
        return;
    };
    let model = load(&path);
    let mut context = context(&model);
    let sampling = Sampling {
        top_k: Some(40),
        top_p: Some(0.95),
        min_p: Some(0.05),
        repeat_penalty: Some(1.1),
        dry_multiplier: Some(0.8),
        ..at(1.0)
    };
    let mut ours = Sampler::new(&model, &sampling).unwrap();
    let breakers = ["\n", ":", "\"", "*"];
    let mut theirs = LlamaSampler::chain_simple([
        LlamaSampler::penalties(model.n_vocab(), 64, 1.1, 0.0, 0.0),
        LlamaSampler::dry(&model, 0.8, 1.75, 2, 64, breakers),
        LlamaSampler::top_k(40),
        LlamaSampler::top_p(0.95, 0),
        LlamaSampler::min_p(0.05, 0),
        LlamaSampler::temp(1.0),
        LlamaSampler::dist(SEED),
    ]);
    let mut token = model.vocab().tokenize(b"Once", true, false)[0].0;
    let mut answer = Vec::new();
    for position in 0..100 {
        let part = Part {
            token,
            position,
            seq: 0,
            samples: true,
        };
        context.decode(&[part]).unwrap();
        let logits = context.logits(0);
        token = ours.choose(logits, None, None).unwrap().token;
        assert_eq!(token, reference(&mut theirs, logits), "token {position}");
        ours.accept(&[token], true);
        answer.push(token);
    }
    answer.sort_unstable();
    answer.dedup();
    assert!(answer.len() > 30, "{answer:?}");
}

#[test]
fn mirostat_chooses_as_llama_cpps_does() {
    let model = small();
    for version in [1, 2] {
        let sampling = Sampling {
            mirostat: Some(version),
            mirostat_tau: Some(3.0),
            mirostat_eta: Some(0.2),
            // It replaces the filters.
            top_k: Some(1),
            ..at(0.8)
        };
        let own = match version {
            1 => LlamaSampler::mirostat(model.n_vocab(), SEED, 3.0, 0.2, 100),
            _ => LlamaSampler::mirostat_v2(SEED, 3.0, 0.2),
        };
        let stages = vec![LlamaSampler::temp(0.8), own];
        agree(
            &format!("mirostat {version}"),
            &sampling,
            Some(&model),
            stages,
        );
    }
}

#[test]
fn dry_forbids_a_repetition_as_llama_cpps_does() {
    let model = small();
    let sampling = Sampling {
        dry_multiplier: Some(2.0),
        dry_penalty_last_n: Some(20),
        ..at(1.0)
    };
    let breakers = ["\n", ":", "\"", "*"];
    let dry = LlamaSampler::dry(&model, 2.0, 1.75, 2, 20, breakers);
    let stages = vec![dry, LlamaSampler::dist(SEED)];
    agree("dry", &sampling, Some(&model), stages);
    // After "abcd, abc" another d is unlikely; after a breaker it is not.
    let flat = vec![0.0; 300];
    let left = |sampling: &Sampling, before: &[u8]| {
        let mut sampler = Sampler::assemble(Some(&model), sampling, Vec::new());
        let tokens: Vec<Token> = before.iter().copied().map(Token::from).collect();
        sampler.accept(&tokens, false);
        logits_left(&mut sampler, &flat)
    };
    let d = usize::from(b'd');
    let penalty = left(&sampling, b"abcd,abc")[d].1;
    assert!(
        (penalty + 2.0 * 1.75).abs() < 1e-4,
        "multiplier * base^(3 - 2): {penalty}"
    );
    assert!(left(&sampling, b"abcd,ab:c")[d].1.abs() < 1e-6);
    let without = Sampling {
        dry_sequence_breakers: Some(Vec::new()),
        ..sampling.clone()
    };
    assert!(left(&without, b"ab:cd,ab:c")[d].1 < left(&sampling, b"ab:cd,ab:c")[d].1);
    let longer = Sampling {
        dry_allowed_length: Some(4),
        ..sampling
    };
    assert!(left(&longer, b"abcd,abc")[d].1.abs() < 1e-6);
}
