//! The tick loop, with the fake backend: order of events, cancels, limits, faults.

use std::time::{Duration, Instant};

use hearth_proto::units::Permille;
use hearth_proto::{
    Command, Constraint, Event, FailureKind, FinishReason, GenerateRequest, Limits, Priority,
    RequestId,
};

use crate::harness::{Engine, chat, load, text_of};

fn cancel(id: u64) -> Command {
    Command::Cancel { id: RequestId(id) }
}

#[test]
fn an_answer_comes_in_order_with_its_costs() {
    let mut engine = Engine::fake("");
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
    let mut engine = Engine::fake("");
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

/// An engine whose answers repeat their prompt twice, with `tokens` guessed tokens.
fn guessing(tokens: u32) -> Engine {
    let mut engine = Engine::start(&["--fake", "repeat=2"]);
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
    let mut engine = Engine::start(&["--fake", "repeat=2"]);
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
fn a_prompt_over_the_context_is_refused_with_both_numbers() {
    let mut engine = Engine::start(&["--fake", "repeat=9"]);
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
fn a_cancel_ends_prefill_decode_and_waiting_promptly() {
    let mut engine = Engine::fake("prefill-us=10000,token-ms=5000");
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
    let mut engine = Engine::fake("");
    for id in 1..=5 {
        engine.send(&Command::Generate(chat(id, &format!("number {id}"))));
    }
    for id in 1..=5 {
        assert_eq!(engine.collect(id).text, format!("number {id}"));
    }
}

#[test]
fn a_ping_is_answered_while_a_decode_takes_long() {
    let mut engine = Engine::fake("token-ms=3000");
    engine.send(&Command::Generate(chat(1, "slow")));
    engine.until(|e| matches!(e, Event::Token { generated: 1, .. }));
    let mut seen = Vec::new();
    for seq in 0..3 {
        let began = Instant::now();
        engine.send(&Command::Ping { seq });
        let pong = engine.until(|e| matches!(e, Event::Pong { .. }));
        assert!(began.elapsed() < Duration::from_secs(1));
        let Event::Pong {
            seq: echoed,
            ticks,
            busy,
        } = pong
        else {
            unreachable!()
        };
        assert_eq!((echoed, busy), (seq, true));
        seen.push(ticks);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

#[test]
fn a_failed_decode_fails_only_its_request() {
    let mut engine = Engine::fake("fail-decode=3");
    let answer = engine.ask(chat(1, "abc"));
    assert_eq!(answer.failure().kind, FailureKind::Internal);
    assert_eq!(engine.ask(chat(2, "abc")).text, "abc");
}

#[test]
fn a_paused_engine_waits_without_cpu_and_goes_on() {
    let mut engine = Engine::fake("token-ms=2,repeat=100");
    engine.send(&Command::Generate(chat(1, "pause me")));
    engine.until(|e| matches!(e, Event::Token { generated: 3, .. }));
    engine.send(&Command::SetLimits(Limits {
        paused: true,
        ..Limits::default()
    }));
    std::thread::sleep(Duration::from_millis(200));
    let before = engine.cpu_seconds();
    std::thread::sleep(Duration::from_secs(1));
    assert!(engine.cpu_seconds() - before < 0.02);
    // A paused engine is not busy: the daemon's watchdog must not consider it hung.
    engine.send(&Command::Ping { seq: 1 });
    let pong = engine.until(|e| matches!(e, Event::Pong { .. }));
    assert!(matches!(pong, Event::Pong { busy: false, .. }));
    engine.send(&Command::Generate(chat(2, "later")));
    engine.send(&cancel(1));
    assert_eq!(engine.collect(1).failure().kind, FailureKind::Cancelled);
    engine.send(&Command::SetLimits(Limits::default()));
    assert!(engine.collect(2).text.starts_with("laterlater"));
}

#[test]
fn duty_stretches_the_work() {
    let mut engine = Engine::fake("token-ms=5");
    let mut took = |duty| {
        engine.send(&Command::SetLimits(Limits {
            duty: Permille(duty),
            ..Limits::default()
        }));
        let began = Instant::now();
        engine.ask(chat(u64::from(duty), "twenty letters in it"));
        began.elapsed()
    };
    let (full, quarter) = (took(1000), took(250));
    assert!(quarter > full * 5 / 2, "{full:?} {quarter:?}");
}

#[test]
fn a_rest_ends_with_a_cancel() {
    let mut engine = Engine::fake("token-ms=200");
    engine.send(&Command::SetLimits(Limits {
        duty: Permille(2),
        ..Limits::default()
    }));
    engine.send(&Command::Generate(chat(1, "resting")));
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    engine.send(&cancel(1));
    assert_eq!(engine.collect(1).failure().kind, FailureKind::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn load_failures_have_their_kind_and_end_the_process() {
    for (script, kind) in [
        ("load=not-found", FailureKind::ModelNotFound),
        ("load=invalid", FailureKind::ModelInvalid),
        ("load=oom", FailureKind::OutOfMemory),
    ] {
        let mut engine = Engine::start(&["--fake", script]);
        let failure = engine
            .load(&load(std::path::Path::new("x.gguf")))
            .unwrap_err();
        assert_eq!(failure.kind, kind);
        assert!(engine.wait(Duration::from_secs(10)).success());
    }
}

#[test]
fn what_a_constraint_forces_needs_no_decode() {
    let mut engine = Engine::fake("");
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
}

#[test]
fn one_that_fails_costs_the_others_nothing() {
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.slots = 3;
    wanted.kept_tokens = 32_768;
    let mut engine = Engine::start(&["--fake", "token-ms=1"]);
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

#[test]
fn with_no_room_the_last_in_turn_begins_again() {
    // Two answers of 300 tokens, and room for 400 together.
    let mut wanted = load(std::path::Path::new("fake"));
    wanted.context_size = 400;
    wanted.slots = 2;
    let mut engine = Engine::start(&["--fake", ""]);
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
    let mut engine = Engine::fake("prefill-us=20000");
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
    let mut engine = Engine::fake("token-ms=2,prefill-us=100");
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

/// With recurrent states: an aborted chunk cannot be rolled back.
#[test]
fn a_state_is_never_lost_to_its_neighbours() {
    let mut engine = Engine::start(&["--fake", "state=1,token-ms=2,prefill-us=2000"]);
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
    let mut engine = Engine::start(&["--fake", "state=1,token-ms=5,fail-decode=40"]);
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
