//! Answers of the engine without a model: their order, their costs, their ends.

use hearth_proto::{Command, Constraint, FailureKind, FinishReason, GenerateRequest, Limits};

use crate::fake;
use crate::harness::{Engine, chat, load};

#[test]
fn an_answer_comes_in_order_with_its_costs() {
    let mut engine = fake("");
    engine.send(&Command::SetLimits(Limits {
        prefill_chunk: 4,
        ..Limits::default()
    }));
    let answer = engine.ask(chat(1, "Grüße 🔥!"));
    assert_eq!(answer.text, "Grüße 🔥!");
    assert_eq!(answer.prompt_tokens, 13);
    assert_eq!(answer.prefills, [4, 8, 12, 13]);
    assert_eq!(answer.reason(), FinishReason::Stop);
    let usage = answer.usage();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (13, 13));
}

#[test]
fn stop_strings_and_max_tokens_end_an_answer() {
    let mut engine = fake("");
    let stop = vec!["END".into(), String::new()];
    let answer = engine.ask(GenerateRequest {
        stop,
        ..chat(1, "one EN two END three")
    });
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("one EN two ", FinishReason::Stop)
    );

    let answer = engine.ask(GenerateRequest {
        max_tokens: Some(3),
        ..chat(2, "abcdef")
    });
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("abc", FinishReason::Length)
    );
    let answer = engine.ask(GenerateRequest {
        max_tokens: Some(0),
        ..chat(3, "abcdef")
    });
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("", FinishReason::Length)
    );
    // Text held back for a stop string is emitted when the stop string does not occur.
    let stop = vec!["defgh".into()];
    let answer = engine.ask(GenerateRequest {
        stop,
        ..chat(4, "abcdef")
    });
    assert_eq!(answer.text, "abcdef");
}

#[test]
fn a_prompt_over_the_context_is_refused_with_both_numbers() {
    let mut engine = Engine::start(&["repeat=9"]);
    let mut request = load(std::path::Path::new("fake"));
    request.context_size = 16;
    engine.load(&request).unwrap();
    let answer = engine.ask(chat(1, "0123456789abcdef"));
    assert_eq!(answer.failure().kind, FailureKind::ContextTooLong);
    let message = &answer.failure().message;
    assert!(
        message.contains("has 16 tokens") && message.contains("holds 16"),
        "{message}"
    );
    assert_eq!(
        engine.ask(chat(2, "")).failure().kind,
        FailureKind::InvalidArgs
    );
    // One token of room is enough for one token of answer; then the context is full.
    let answer = engine.ask(chat(3, "0123456789abcde"));
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("0", FinishReason::Length)
    );
    // A prompt that is far too long is refused before it is tokenized.
    let answer = engine.ask(chat(4, &"x".repeat(100_000)));
    assert_eq!(answer.failure().kind, FailureKind::ContextTooLong);
}

#[test]
fn what_a_constraint_forces_needs_no_decode() {
    let mut engine = fake("");
    let answer = engine.ask(GenerateRequest {
        constraint: Some(Constraint::Regex("the colour is (red|blue)".into())),
        ..chat(1, "tb")
    });
    assert_eq!(answer.text, "the colour is blue");
    assert_eq!(answer.usage().completion_tokens, 18);
    let answer = engine.ask(GenerateRequest {
        constraint: Some(Constraint::Regex("the colour is (red|blue)".into())),
        max_tokens: Some(5),
        ..chat(2, "tb")
    });
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("the c", FinishReason::Length)
    );
    // The rest of a word is forced and complete, but not within the bound.
    let answer = engine.ask(GenerateRequest {
        constraint: Some(Constraint::Regex("blue|red".into())),
        max_tokens: Some(2),
        ..chat(3, "b")
    });
    assert_eq!(
        (answer.text.as_str(), answer.reason()),
        ("bl", FinishReason::Length)
    );
}
