//! Which request is computed when: queueing, cancels, preemption.

use std::time::{Duration, Instant};

use hearth_proto::{Command, Event, FailureKind, GenerateRequest, Priority, RequestId};

use crate::harness::{Engine, chat, load};
use crate::{cancel, fake};

#[test]
fn a_cancel_ends_prefill_decode_and_waiting_promptly() {
    let mut engine = fake("prefill-us=10000,token-ms=5000");
    let prompt = "x".repeat(1000);
    engine.send(&Command::Generate(chat(1, &prompt)));
    engine.send(&Command::Generate(chat(2, "waiting")));
    engine.until(|e| matches!(e, Event::Started { .. }));
    let began = Instant::now();
    // The waiting one first: the cancel is answered while the other one computes.
    engine.send(&cancel(2));
    engine.send(&cancel(1));
    for answer in engine.collect_all(&[1, 2]) {
        assert_eq!(answer.failure().kind, FailureKind::Cancelled);
    }

    engine.send(&Command::Generate(chat(3, "decode")));
    engine.until(|e| matches!(e, Event::Token { generated: 1, .. }));
    engine.send(&cancel(3));
    assert_eq!(engine.collect(3).failure().kind, FailureKind::Cancelled);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    // Cancelling a finished or unknown request does nothing.
    engine.send(&cancel(3));
    engine.send(&cancel(99));
    assert_eq!(
        engine
            .ask(GenerateRequest {
                max_tokens: Some(1),
                ..chat(4, "ok")
            })
            .text,
        "o"
    );
}

#[test]
fn requests_wait_in_order() {
    let mut engine = fake("");
    for id in 1..=5 {
        engine.send(&Command::Generate(chat(id, &format!("number {id}"))));
    }
    for id in 1..=5 {
        assert_eq!(engine.collect(id).text, format!("number {id}"));
    }
}

#[test]
fn with_no_room_the_last_in_turn_begins_again() {
    // Two answers of 300 tokens, and room for 400 together.
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.context_size = 400;
    wanted.slots = 2;
    let mut engine = Engine::start(&[""]);
    engine.load(&wanted).unwrap();
    let texts = ["first ".repeat(25), "other ".repeat(25)];
    for (id, text) in (1..).zip(&texts) {
        engine.send(&Command::Generate(chat(id, text)));
    }
    for (answer, text) in engine.collect_all(&[1, 2]).iter().zip(&texts) {
        assert_eq!(&answer.text, text);
    }
}

#[test]
fn voice_cuts_a_background_chunk_short() {
    // A whole chunk takes 2.5 s.
    let mut engine = fake("prefill-us=20000");
    engine.send(&Command::Generate(GenerateRequest {
        priority: Priority::Background,
        ..chat(1, &"long ".repeat(30))
    }));
    engine.until(|e| matches!(e, Event::Started { .. }));
    std::thread::sleep(Duration::from_millis(50));
    engine.send(&Command::Generate(GenerateRequest {
        priority: Priority::Interactive,
        ..chat(2, "quick")
    }));
    let first = engine.next();
    assert!(
        matches!(
            first,
            Event::Started {
                id: RequestId(2),
                ..
            }
        ),
        "{first:?}"
    );
    engine.collect(2);
    // A request of the same class waits for the chunk.
    engine.send(&Command::Generate(GenerateRequest {
        priority: Priority::Background,
        ..chat(3, "patient")
    }));
    let answer = engine.collect(1);
    assert_eq!(answer.prefills, [128, 150]);
    assert_eq!(answer.text, "long ".repeat(30));
}

#[test]
fn voice_comes_before_background_work() {
    let mut engine = fake("token-ms=2,prefill-us=100");
    let background = GenerateRequest {
        priority: Priority::Background,
        ..chat(1, &"long ".repeat(200))
    };
    engine.send(&Command::Generate(background));
    engine.until(|e| matches!(e, Event::Token { .. }));
    let voice = GenerateRequest {
        priority: Priority::Interactive,
        ..chat(2, "quick")
    };
    engine.send(&Command::Generate(voice));
    let mut begun = false;
    loop {
        match engine.next() {
            Event::Started { id, .. } => begun |= id.0 == 2,
            Event::Finished { id, .. } if id.0 == 2 => break,
            Event::Token { id, .. } => assert!(!begun || id.0 == 2, "it did not give way"),
            _ => {}
        }
    }
    // It continues where it was: nothing is computed twice.
    let rest = engine.collect(1);
    assert!(rest.prefills.is_empty(), "{:?}", rest.prefills);
    assert_eq!(rest.usage().completion_tokens, 1000);
}
