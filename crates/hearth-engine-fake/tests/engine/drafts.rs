//! Tokens that are drafted: from earlier text, and by a draft model.

use hearth_proto::{Command, Constraint, DraftFile, Event, GenerateRequest};

use crate::harness::{Engine, chat, load};

/// An engine whose answers repeat their prompt twice, with `tokens` guessed tokens.
fn guessing(tokens: u32) -> Engine {
    let mut engine = Engine::start(&["repeat=2"]);
    let mut request = load(std::path::Path::new("fake"));
    request.lookup_tokens = tokens;
    engine.load(&request).unwrap();
    engine
}

fn ticks(engine: &mut Engine) -> u64 {
    engine.send(&Command::Ping { seq: 7 });
    let Event::Pong { ticks, .. } = engine.until(|e| matches!(e, Event::Pong { .. })) else {
        unreachable!("asked for a pong")
    };
    ticks
}

#[test]
fn guessed_tokens_save_decodes_and_change_nothing() {
    let text = "The quick brown fox jumps over the lazy dog and sees 1,234 cats.";
    let ask = |tokens, id: u64, stop: &str, max_tokens| {
        let mut engine = guessing(tokens);
        let before = ticks(&mut engine);
        let mut answers = Vec::new();
        for id in id..id + 2 {
            let answer = engine.ask(GenerateRequest {
                stop: vec![stop.into()],
                max_tokens,
                ..chat(id, text)
            });
            answers.push((answer.text.clone(), answer.tokens, answer.reason()));
        }
        (answers, ticks(&mut engine) - before)
    };
    for (stop, max_tokens) in [
        ("", None),
        ("cats.The", None),
        ("", Some(70)),
        ("", Some(1)),
    ] {
        let (plain, plain_ticks) = ask(0, 1, stop, max_tokens);
        for tokens in [1, 4, 8, 99] {
            let (guessed, ticks) = ask(tokens, 1, stop, max_tokens);
            assert_eq!(guessed, plain, "{tokens} {stop:?} {max_tokens:?}");
            if max_tokens != Some(1) {
                assert!(ticks < plain_ticks, "{ticks} of {plain_ticks}");
            }
            if tokens == 8 && max_tokens.is_none() {
                assert!(ticks * 3 < plain_ticks, "{ticks} of {plain_ticks}");
            }
        }
    }
}

#[test]
fn guesses_go_with_others_forms_and_little_room() {
    let mut engine = Engine::start(&["repeat=2"]);
    let mut request = load(std::path::Path::new("fake"));
    (request.lookup_tokens, request.slots, request.context_size) = (8, 2, 64);
    engine.load(&request).unwrap();
    let text = "0123456789abcdef0123";
    let twice = text.repeat(2);
    engine.send(&Command::Generate(chat(1, text)));
    engine.send(&Command::Generate(chat(2, text)));
    for answer in engine.collect_all(&[1, 2]) {
        assert_eq!(answer.text, twice);
    }
    let formed = engine.ask(GenerateRequest {
        constraint: Some(Constraint::Regex("[0-9a-f]{30}".into())),
        ..chat(3, text)
    });
    assert_eq!(formed.text, twice[..30]);
    // The cached tokens of a guessed answer are those of the answer: the next prompt
    // reuses them.
    let next = engine.ask(chat(4, &format!("{text}{text}")));
    assert!(next.cached_tokens >= 20, "{}", next.cached_tokens);
    // Up to the end of the context.
    let full = engine.ask(chat(5, &"0123456789".repeat(4)));
    assert_eq!((full.prompt_tokens, full.tokens), (40, 24));
}

#[test]
fn a_draft_model_saves_decodes_and_changes_nothing() {
    let text = "The quick brown fox jumps over the lazy dog and sees 1,234 cats.";
    let ask = |has_draft: bool, release: bool, max_tokens| {
        let mut engine = Engine::start(&["repeat=2"]);
        let mut request = load(std::path::Path::new("fake"));
        request.draft = has_draft.then(|| DraftFile {
            name: "draft".into(),
            path: "draft".into(),
        });
        engine.load(&request).unwrap();
        if release {
            engine.send(&Command::ReleaseDraft);
        }
        let before = ticks(&mut engine);
        let answer = engine.ask(GenerateRequest {
            max_tokens,
            ..chat(1, text)
        });
        let answer = (answer.text.clone(), answer.tokens, answer.reason());
        (answer, ticks(&mut engine) - before)
    };
    for max_tokens in [None, Some(70)] {
        let (plain, plain_ticks) = ask(false, false, max_tokens);
        // Every eleventh token of a draft is wrong.
        let (drafted, ticks) = ask(true, false, max_tokens);
        assert_eq!(drafted, plain);
        assert!(ticks * 2 < plain_ticks, "{ticks} of {plain_ticks}");
        let (released, ticks) = ask(true, true, max_tokens);
        assert_eq!((released, ticks), (plain, plain_ticks));
    }
    let (drafted, _) = ask(true, false, Some(1));
    assert_eq!(drafted.0, "T");
}
