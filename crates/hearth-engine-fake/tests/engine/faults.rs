//! Failures of loading and of single batches.

use std::time::Duration;

use hearth_proto::{Command, Event, FailureKind, GenerateRequest, Priority, RequestId};

use crate::fake;
use crate::harness::{Engine, chat, load, text_of};

#[test]
fn a_failed_decode_fails_only_its_request() {
    let mut engine = fake("fail-decode=3");
    let answer = engine.ask(chat(1, "abc"));
    assert_eq!(answer.failure().kind, FailureKind::Internal);
    assert_eq!(engine.ask(chat(2, "abc")).text, "abc");
}

#[test]
fn load_failures_have_their_kind_and_end_the_process() {
    for (script, kind) in [
        ("load=not-found", FailureKind::ModelNotFound),
        ("load=invalid", FailureKind::ModelInvalid),
        ("load=oom", FailureKind::OutOfMemory),
    ] {
        let mut engine = Engine::start(&[script]);
        let failure = engine
            .load(&load(std::path::Path::new("x.gguf")))
            .unwrap_err();
        assert_eq!(failure.kind, kind);
        assert!(engine.wait(Duration::from_secs(10)).success());
    }
}

#[test]
fn one_that_fails_costs_the_others_nothing() {
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.slots = 3;
    wanted.kept_tokens = 32_768;
    let mut engine = Engine::start(&["token-ms=1"]);
    engine.load(&wanted).unwrap();
    let texts = [
        "one of three answers",
        "the second one !fail here",
        "and the third one is fine",
    ];
    for (id, text) in (1..).zip(texts) {
        engine.send(&Command::Generate(chat(id, text)));
    }
    let answers = engine.collect_all(&[1, 2, 3]);
    assert_eq!(
        (answers[0].text.as_str(), answers[2].text.as_str()),
        (texts[0], texts[2])
    );
    assert_eq!(answers[1].failure().kind, FailureKind::Internal);
}

/// With recurrent states: an aborted chunk cannot be rolled back.
#[test]
fn a_state_is_never_lost_to_its_neighbours() {
    let mut engine = Engine::start(&["state=1,token-ms=2,prefill-us=2000"]);
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.slots = 2;
    wanted.context_size = 4096;
    engine.load(&wanted).unwrap();
    let text = "a neighbour ".repeat(30);
    engine.send(&Command::Generate(chat(1, &text)));
    engine.until(|e| matches!(e, Event::Token { .. }));
    // These prompts are computed beside the answer; then request 3 is cancelled.
    engine.send(&Command::Generate(GenerateRequest {
        priority: Priority::Background,
        ..chat(2, &"long ".repeat(200))
    }));
    engine.send(&Command::Generate(chat(3, &"also long ".repeat(100))));
    std::thread::sleep(Duration::from_millis(100));
    engine.send(&Command::Cancel { id: RequestId(3) });
    engine.send(&Command::Generate(GenerateRequest {
        priority: Priority::Interactive,
        ..chat(4, "quick")
    }));
    let mut ends = std::collections::BTreeMap::new();
    let mut said = std::collections::BTreeMap::<u64, String>::new();
    while ends.len() < 4 {
        match engine.next() {
            Event::Token { id, parts, .. } => {
                said.entry(id.0).or_default().push_str(&text_of(&parts));
            }
            Event::Finished { id, .. } => drop(ends.insert(id.0, None)),
            Event::Failed { id, failure } => drop(ends.insert(id.0, Some(failure))),
            _ => {}
        }
    }
    let failed: Vec<u64> = ends
        .iter()
        .filter(|(_, f)| f.is_some())
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(failed, [3], "{ends:?}");
    // The first tokens of request 1, which were read above, are missing here.
    assert!(text.ends_with(&said[&1]) && said[&1].len() + 8 >= text.len());
    assert_eq!(
        (said[&2].as_str(), said[&4].as_str()),
        ("long ".repeat(200).as_str(), "quick")
    );
}

#[test]
fn a_failed_batch_of_states_is_computed_again() {
    let mut engine = Engine::start(&["state=1,token-ms=5,fail-decode=40"]);
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.slots = 3;
    engine.load(&wanted).unwrap();
    let texts = ["one after another ", "two by two ", "three at once "].map(|t| t.repeat(8));
    for (id, text) in (1..).zip(&texts) {
        engine.send(&Command::Generate(chat(id, text)));
    }
    for (answer, text) in engine.collect_all(&[1, 2, 3]).iter().zip(&texts) {
        assert_eq!(&answer.text, text);
    }
}
