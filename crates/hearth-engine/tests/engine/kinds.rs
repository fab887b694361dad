//! Kinds of models: unsupported requests are refused, and the engine continues.

use std::path::Path;
use std::process::Command as Process;

use hearth_gguf::read_header;
use hearth_gguf::synthetic::{Encoder, make_encoder};
use hearth_proto::{Command, Event, FailureKind, ModelKind, Prompt, RequestId};

use crate::ENGINE;
use crate::harness::{Engine, chat, load, request, tiny_model};

fn embed(engine: &mut Engine, text: &str) -> Result<Vec<f32>, FailureKind> {
    engine.send(&Command::Embed {
        id: RequestId(1),
        input: text.into(),
        truncate: false,
    });
    match engine.next() {
        Event::Embedded { embedding, .. } => Ok(embedding),
        Event::Failed { failure, .. } => Err(failure.kind),
        other => panic!("{other:?}"),
    }
}

fn listed(path: &Path) -> Option<ModelKind> {
    let mut file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    read_header(&mut file).unwrap().model_kind()
}

/// Regression: chat on an embedding model ended the process.
#[test]
fn embedding_models_make_vectors_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for encoder in [
        Encoder::Bert,
        Encoder::NomicBert,
        Encoder::Gemma,
        Encoder::Qwen3,
        Encoder::T5Encoder,
    ] {
        let path = folder.path().join(format!("{encoder:?}.gguf"));
        make_encoder(&path, encoder, 5).unwrap();
        assert_eq!(listed(&path), Some(ModelKind::Embedding), "{encoder:?}");
        let mut engine = Engine::start(&[]);
        let info = engine.load(&load(&path)).unwrap();
        assert_eq!(info.kind, ModelKind::Embedding, "{encoder:?}");
        let text = Prompt::Text("Once".into());
        for refused in [chat(2, "Hello"), request(3, text)] {
            let failure = engine.ask(refused).failure().clone();
            assert_eq!(failure.kind, FailureKind::NotSupported, "{failure}");
            assert!(failure.message.contains("/v1/embeddings"), "{failure}");
        }
        let vector = embed(&mut engine, "The lamp in the kitchen").unwrap();
        assert_eq!(vector.len(), 64);
        // As the service checks a file that is imported.
        let check = Process::new(ENGINE)
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        assert!(check.status.success(), "{encoder:?}: {check:?}");
    }
}

fn rank(engine: &mut Engine, query: &str, document: &str) -> Result<(f32, u32), FailureKind> {
    engine.send(&Command::Rerank {
        id: RequestId(1),
        query: query.into(),
        document: document.into(),
    });
    match engine.next() {
        Event::Ranked { score, tokens, .. } => Ok((score, tokens)),
        Event::Failed { failure, .. } => Err(failure.kind),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rerankers_score_and_do_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // BOS, EOS, the separator and EOS, or what is in the template.
    for (encoder, more) in [(Encoder::BertReranker, 4), (Encoder::Qwen3Reranker, 20)] {
        let path = folder.path().join(format!("{encoder:?}.gguf"));
        make_encoder(&path, encoder, 5).unwrap();
        assert_eq!(listed(&path), Some(ModelKind::Reranker), "{encoder:?}");
        let mut engine = Engine::start(&[]);
        let info = engine.load(&load(&path)).unwrap();
        assert_eq!(info.kind, ModelKind::Reranker, "{encoder:?}");
        let text = Prompt::Text("Once".into());
        for refused in [chat(2, "Hello"), request(3, text)] {
            let failure = engine.ask(refused).failure().clone();
            assert_eq!(failure.kind, FailureKind::NotSupported, "{failure}");
            assert!(failure.message.contains("/v1/rerank"), "{failure}");
        }
        assert_eq!(embed(&mut engine, "Once"), Err(FailureKind::NotSupported));
        let query = "Where is the lamp?";
        let (one, tokens) = rank(&mut engine, query, "In the kitchen").unwrap();
        assert_eq!(tokens as usize, query.len() + "In the kitchen".len() + more);
        let (other, _) = rank(&mut engine, query, "It rains").unwrap();
        assert!((one - other).abs() > 1e-6, "{encoder:?}: {one}, {other}");
        // A longer text needs another context.
        let long = rank(&mut engine, query, &"kitchen ".repeat(200)).unwrap();
        assert!(long.1 > 1600);
        let again = rank(&mut engine, query, "In the kitchen").unwrap();
        assert!(
            (again.0 - one).abs() < 1e-6,
            "{encoder:?}: {one}, {again:?}"
        );
        for length in [300, 30_000] {
            let too_long = rank(&mut engine, query, &"kitchen ".repeat(length));
            assert_eq!(too_long, Err(FailureKind::ContextTooLong));
        }
        let check = Process::new(ENGINE)
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        assert!(check.status.success(), "{encoder:?}: {check:?}");
    }
    let mut engine = Engine::start(&[]);
    engine.load(&load(tiny_model())).unwrap();
    assert_eq!(rank(&mut engine, "a", "b"), Err(FailureKind::NotSupported));
}

#[test]
fn a_model_with_encoder_and_decoder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t5.gguf");
    make_encoder(&path, Encoder::T5, 5).unwrap();
    assert_eq!(listed(&path), Some(ModelKind::EncoderDecoder));
    let mut engine = Engine::start(&[]);
    let info = engine.load(&load(&path)).unwrap();
    assert_eq!(info.kind, ModelKind::EncoderDecoder);
    let text = Prompt::Text("Once".into());
    for refused in [chat(2, "Hello"), request(3, text)] {
        let failure = engine.ask(refused).failure().clone();
        assert_eq!(failure.kind, FailureKind::NotSupported, "{failure}");
    }
    assert_eq!(embed(&mut engine, "Once"), Err(FailureKind::NotSupported));
}

#[test]
fn a_base_model_continues_texts_but_holds_no_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.gguf");
    make_encoder(&path, Encoder::Plain, 5).unwrap();
    assert_eq!(listed(&path), Some(ModelKind::Base));
    let mut engine = Engine::start(&[]);
    assert_eq!(engine.load(&load(&path)).unwrap().kind, ModelKind::Base);
    let refused = engine.ask(chat(2, "Hello")).failure().clone();
    assert_eq!(refused.kind, FailureKind::NotSupported);
    assert!(refused.message.contains("/v1/completions"), "{refused}");
    let mut text = request(3, Prompt::Text("Once".into()));
    text.max_tokens = Some(4);
    assert!(engine.ask(text).end.unwrap().is_ok());
    assert!(embed(&mut engine, "Once").is_ok());
}

#[test]
fn tokens_for_turns_make_a_chat_model() {
    assert_eq!(listed(tiny_model()), Some(ModelKind::Chat));
    let mut engine = Engine::start(&[]);
    let info = engine.load(&load(tiny_model())).unwrap();
    assert_eq!(
        (info.kind, info.has_chat_template),
        (ModelKind::Chat, false)
    );
}
