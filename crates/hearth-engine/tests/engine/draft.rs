//! A draft model changes the speed of answers, and no answer.

use std::path::{Path, PathBuf};

use hearth_proto::{AdapterRef, Command, DraftFile, GenerateRequest, LoadRequest, Lora, ModelInfo};

use crate::harness::{Engine, chat, load, tiny_model};
use crate::lora::adapter;
use crate::real_model::real_model;

const QUESTIONS: [&str; 3] = [
    "What is the capital of Italy?",
    "Turn on the light in the kitchen.",
    "Count from one to twenty, and then back to one.",
];

fn demo() -> PathBuf {
    let folder = std::env::var_os("HEARTH_DEMO_MODEL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo-model"),
        PathBuf::from,
    );
    folder.join("hearth-demo-q8_0.gguf")
}

fn with_draft(wanted: &LoadRequest, draft: &Path) -> LoadRequest {
    LoadRequest {
        draft: Some(DraftFile {
            name: "draft".into(),
            path: draft.to_owned(),
        }),
        ..wanted.clone()
    }
}

fn start(wanted: &LoadRequest) -> (Engine, ModelInfo) {
    let mut engine = Engine::start(&[]);
    let info = engine.load(wanted).unwrap();
    (engine, info)
}

/// The answers to all questions, greedy and drawn with a seed.
fn answers(engine: &mut Engine, lora: &[Lora]) -> Vec<String> {
    let mut all = Vec::new();
    for (id, question) in (1..).zip(QUESTIONS) {
        for (id, temperature) in [(id, 0.0), (id + 10, 0.8)] {
            let mut request = GenerateRequest {
                max_tokens: Some(48),
                lora: lora.to_vec(),
                ..chat(id, question)
            };
            request.sampling.temperature = Some(temperature);
            request.sampling.seed = Some(7);
            all.push(engine.ask(request).text);
        }
    }
    all
}

#[test]
fn answers_are_those_without_a_draft_model() {
    let plain = load(&demo());
    let expected = answers(&mut start(&plain).0, &[]);
    let (mut engine, info) = start(&with_draft(&plain, &demo()));
    assert_eq!(info.draft_problem, "");
    assert_eq!(answers(&mut engine, &[]), expected);
    engine.send(&Command::ReleaseDraft);
    assert_eq!(answers(&mut engine, &[]), expected);
}

/// The draft model does not have the adapter: most of what it proposes is rejected.
#[test]
fn rejected_drafts_change_no_answer() {
    let plain = LoadRequest {
        adapters: vec![adapter(&demo(), "drafted", 3)],
        ..load(&demo())
    };
    let lora = [Lora {
        adapter: AdapterRef::Name("drafted".into()),
        scale: 0.3,
    }];
    let (mut engine, _) = start(&plain);
    let expected = answers(&mut engine, &lora);
    assert_ne!(expected, answers(&mut engine, &[]));
    let (mut engine, info) = start(&with_draft(&plain, &demo()));
    assert_eq!(info.draft_problem, "");
    assert_eq!(answers(&mut engine, &lora), expected);
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused_and_the_model_answers() {
    let plain = load(&demo());
    let expected = answers(&mut start(&plain).0, &[]);
    let (mut engine, info) = start(&with_draft(&plain, tiny_model()));
    let problem = &info.draft_problem;
    assert!(problem.contains("another vocabulary"), "{problem}");
    assert_eq!(answers(&mut engine, &[]), expected);
    let (_, info) = start(&with_draft(&plain, Path::new("/nonexistent.gguf")));
    assert!(!info.draft_problem.is_empty());
}

#[test]
fn greedy_answers_of_a_real_model_are_those_without_a_draft_model() {
    let Some(path) = real_model("smollm2-135m-instruct-q4_1") else {
        return;
    };
    let greedy = |wanted: &LoadRequest| -> Vec<String> {
        let (mut engine, info) = start(wanted);
        assert_eq!(info.draft_problem, "");
        let questions = (1..).zip(QUESTIONS);
        let ask = |(id, question)| {
            engine.ask(GenerateRequest {
                max_tokens: Some(64),
                ..chat(id, question)
            })
        };
        questions.map(ask).map(|answer| answer.text).collect()
    };
    let plain = load(&path);
    assert_eq!(greedy(&with_draft(&plain, &path)), greedy(&plain));
}
