use std::path::PathBuf;

use hearth_gguf::synthetic::{Encoder, make_encoder};

use super::super::testing::{context, load, real_model};
use super::*;

/// Tokens of a text of this length, for a vocabulary of at least 256.
fn tokens(count: usize) -> Vec<Token> {
    (0..count)
        .map(|n| Token::try_from(n * 7919 % 251).unwrap())
        .collect()
}

/// The facts of a model's first context, as the engine creates it.
fn facts(model: &LlamaModel) -> KindFacts {
    context(model).kind_facts(model)
}

/// llama.cpp's vector of a text: all of it in one batch, pooled as the file says, or by
/// the mean.
fn reference(model: &LlamaModel, facts: &KindFacts, tokens: &[Token]) -> Vec<f32> {
    let count = u32::try_from(tokens.len()).unwrap();
    let mut copy = tokens.to_vec();
    // SAFETY: the model is valid; the batch refers to `copy`, which outlives its use; all
    // that is made is freed once.
    unsafe {
        let mut params = sys::llama_context_default_params();
        params.n_ctx = count;
        params.n_batch = count;
        params.n_ubatch = count;
        params.n_seq_max = 1;
        params.embeddings = true;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        if facts.pooling == Pooling::None {
            params.pooling_type = sys::LLAMA_POOLING_TYPE_MEAN;
        }
        let context = sys::llama_init_from_model(raw(model), params);
        assert!(!context.is_null());
        let batch = sys::llama_batch_get_one(copy.as_mut_ptr(), count.cast_signed());
        let code = if facts.has_encoder {
            sys::llama_encode(context, batch)
        } else {
            sys::llama_decode(context, batch)
        };
        assert_eq!(code, 0);
        let width = match facts.pooling {
            Pooling::Rank => sys::llama_model_n_cls_out(raw(model)),
            _ => sys::llama_model_n_embd_out(raw(model)).cast_unsigned(),
        };
        let width = usize::try_from(width).unwrap();
        let vector = sys::llama_get_embeddings_seq(context, 0);
        assert!(!vector.is_null());
        let vector = std::slice::from_raw_parts(vector, width).to_vec();
        sys::llama_free(context);
        vector
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn check(what: &str, model: &LlamaModel, lengths: &[usize]) {
    let facts = facts(model);
    let progress = Arc::default();
    let mut made: Option<Embedder> = None;
    for length in lengths {
        let tokens = tokens(*length);
        if !made.as_ref().is_some_and(|e| e.fits(tokens.len())) {
            made = Embedder::new(model, &facts, tokens.len(), None, &progress);
        }
        let ours = made.as_mut().unwrap().embed(&tokens, 1).unwrap();
        let theirs = reference(model, &facts, &tokens);
        let cosine = cosine(&ours, &theirs);
        assert!(cosine > 0.999, "{what}, {length} tokens: cosine {cosine}");
        let norm: f32 = ours.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-3, "{what}: length {norm}");
    }
}

#[test]
fn vectors_are_llama_cpps() {
    let folder = tempfile::tempdir().unwrap();
    for (encoder, sees_all, pooling) in [
        (Encoder::Bert, true, Pooling::First),
        (Encoder::NomicBert, true, Pooling::Mean),
        (Encoder::Gemma, true, Pooling::Mean),
        (Encoder::Qwen3, false, Pooling::Last),
        (Encoder::Plain, false, Pooling::None),
        (Encoder::T5Encoder, false, Pooling::None),
    ] {
        let path = folder.path().join("model.gguf");
        make_encoder(&path, encoder, 3).unwrap();
        let model = load(&path);
        let facts = facts(&model);
        assert_eq!(
            (facts.sees_all && !facts.has_encoder, facts.pooling),
            (sees_all, pooling),
            "{encoder:?}"
        );
        // Lengths go up and down: a longer text needs another context, a shorter one does
        // not.
        check(&format!("{encoder:?}"), &model, &[1, 100, 500, 2000, 3]);
    }
}

#[test]
fn scores_are_llama_cpps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (encoder, labels) in [(Encoder::BertReranker, 1), (Encoder::Qwen3Reranker, 2)] {
        make_encoder(&path, encoder, 3).unwrap();
        let model = load(&path);
        let facts = facts(&model);
        assert_eq!(facts.pooling, Pooling::Rank, "{encoder:?}");
        let mut embedder = Embedder::new(&model, &facts, 2000, None, &Arc::default()).unwrap();
        let mut scores = Vec::new();
        for length in [1, 100, 600, 2000, 3] {
            let tokens = tokens(length);
            let ours = embedder.rank(&tokens, 1).unwrap();
            let theirs = reference(&model, &facts, &tokens);
            assert_eq!(theirs.len(), labels);
            let apart = (ours - theirs[0]).abs();
            assert!(apart < 1e-4, "{encoder:?}, {length}: {ours}, {theirs:?}");
            scores.push(ours);
        }
        scores.dedup();
        assert_eq!(scores.len(), 5, "{encoder:?}: {scores:?}");
    }
}

/// The end of a text must change the vector of a model that attends to all of it, even
/// where the end is in another part of the batch.
#[test]
fn models_without_causal_attention_use_the_end_of_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    make_encoder(&path, Encoder::Bert, 3).unwrap();
    let model = load(&path);
    let mut embedder = Embedder::new(&model, &facts(&model), 600, None, &Arc::default()).unwrap();
    let mut text = tokens(600);
    let before = embedder.embed(&text, 1).unwrap();
    text[599] = 200;
    let after = embedder.embed(&text, 1).unwrap();
    assert!(
        cosine(&before, &after) < 1.0 - 1e-9,
        "the first token's vector is the same"
    );
}

#[test]
fn vectors_of_real_models_are_llama_cpps() {
    // A long text is slow for a model with a large vocabulary, which computes logits for
    // each token.
    for (name, lengths) in [
        (
            "smollm2-135m-instruct-q4_1.gguf",
            [1, 100, 500, 2000].as_slice(),
        ),
        ("gemma3-270m-q4_k_m.gguf", [1, 100, 500].as_slice()),
    ] {
        let Some(path): Option<PathBuf> = real_model(name) else {
            continue;
        };
        check(name, &load(&path), lengths);
    }
}
