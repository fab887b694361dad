//! Embeddings, with random weights.

use hearth_proto::{Command, EmbedInput, Event, FailureKind, PromptPart, RequestId};

use crate::harness::{Engine, chat, load, tiny_model};
use crate::render::tokens_of;

fn embed(engine: &mut Engine, text: &str) -> (Vec<f32>, u32) {
    engine.send(&Command::Embed {
        id: RequestId(1),
        input: text.into(),
        truncate: false,
    });
    match engine.next() {
        Event::Embedded {
            embedding, tokens, ..
        } => (embedding, tokens),
        other => panic!("{other:?}"),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn vectors_of_random_weights() {
    let mut engine = Engine::with_model(tiny_model());
    let (one, tokens) = embed(&mut engine, "The lamp in the kitchen");
    assert_eq!((one.len(), tokens), (128, 23));
    assert!((cosine(&one, &one) - 1.0).abs() < 1e-4);
    let (other, _) = embed(&mut engine, "What is the weather like?");
    assert!(cosine(&one, &other) < 0.9999);
    // An answer in between changes nothing, and neither does a shorter text before a
    // longer one.
    engine.ask(chat(2, "Hello"));
    let long = "word ".repeat(100);
    let (before, _) = embed(&mut engine, &long);
    let (again, _) = embed(&mut engine, "The lamp in the kitchen");
    assert!(cosine(&one, &again) > 0.99999);
    assert!(cosine(&before, &embed(&mut engine, &long).0) > 0.99999);
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let mut wanted = load(tiny_model());
    wanted.context_size = 256;
    let mut engine = Engine::start(&[]);
    engine.load(&wanted).unwrap();
    for (text, kind) in [
        ("", FailureKind::InvalidArgs),
        (&"x".repeat(3000), FailureKind::ContextTooLong),
        (&"x".repeat(3_000_000), FailureKind::ContextTooLong),
    ] {
        engine.send(&Command::Embed {
            id: RequestId(1),
            input: text.into(),
            truncate: false,
        });
        match engine.next() {
            Event::Failed { failure, .. } => assert_eq!(failure.kind, kind),
            other => panic!("{other:?}"),
        }
    }
}

/// Tokens of the longest text that is embedded.
const LONGEST: u32 = 2048;

#[test]
fn the_end_of_a_long_text_may_be_left_out() {
    let mut engine = Engine::with_model(tiny_model());
    let mut embedded = |text: String| {
        engine.send(&Command::Embed {
            id: RequestId(1),
            input: text.into(),
            truncate: true,
        });
        match engine.next() {
            Event::Embedded {
                embedding, tokens, ..
            } => (embedding, tokens),
            other => panic!("{other:?}"),
        }
    };
    let (short, tokens) = embedded("A lamp".into());
    assert!(tokens < LONGEST);
    let (cut, tokens) = embedded(format!("A lamp{}", "x".repeat(3000)));
    assert_eq!(tokens, LONGEST);
    assert!(cosine(&short, &cut) < 0.9999);
    // What is left out does not matter, however much it is.
    let (same, _) = embedded(format!("A lamp{}", "x".repeat(3_000_000)));
    assert!(cosine(&cut, &same) > 0.9999);
}

#[test]
fn tokens_are_embedded_as_they_are() {
    let mut engine = Engine::with_model(tiny_model());
    let text = "A lamp";
    let tokens = tokens_of(&mut engine, text);
    let mut embedded = |parts: Vec<PromptPart>, truncate| {
        engine.send(&Command::Embed {
            id: RequestId(1),
            input: EmbedInput(parts),
            truncate,
        });
        match engine.next() {
            Event::Embedded {
                embedding, tokens, ..
            } => Ok((embedding, tokens)),
            Event::Failed { failure, .. } => Err(failure.kind),
            other => panic!("{other:?}"),
        }
    };
    let (of_text, count) = embedded(vec![text.into()], false).unwrap();
    assert_eq!(count as usize, tokens.len());
    let whole = PromptPart::Tokens(tokens.clone());
    let rest = PromptPart::Tokens(tokens[2..].to_vec());
    let halves = vec![PromptPart::Tokens(tokens[..2].to_vec()), rest];
    for parts in [vec![whole], halves] {
        let (vector, count) = embedded(parts, false).unwrap();
        assert_eq!(count as usize, tokens.len());
        assert!(cosine(&vector, &of_text) > 0.99999);
    }
    for (list, truncate, result) in [
        (vec![], false, Err(FailureKind::InvalidArgs)),
        (vec![-1], false, Err(FailureKind::InvalidArgs)),
        (vec![1, i32::MAX], true, Err(FailureKind::InvalidArgs)),
        (vec![1; 3000], false, Err(FailureKind::ContextTooLong)),
        (vec![1; 3000], true, Ok(LONGEST)),
    ] {
        let made = embedded(vec![PromptPart::Tokens(list)], truncate);
        assert_eq!(made.map(|(_, count)| count), result);
    }
}
