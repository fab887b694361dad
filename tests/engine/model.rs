//! llama.cpp with random weights: what is asked happens, whatever the text says.

use std::time::{Duration, Instant};

use hearthd::protocol::{
    Command, Event, FailureKind, FinishReason, GenerateRequest, KvType, Limits, Prompt, RequestId,
    Sampling,
};

use crate::harness::{Engine, chat, load, random_model, request, tiny_model};

fn limited(threads: u32) -> Command {
    Command::SetLimits(Limits {
        threads,
        ..Limits::default()
    })
}

fn first(max_tokens: u32, request: GenerateRequest) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(max_tokens),
        ..request
    }
}

#[test]
fn it_says_what_it_loaded() {
    let mut engine = Engine::start(&[]);
    let info = engine.load(&load(tiny_model())).unwrap();
    assert!(
        info.description.contains("llama") && info.description.contains("F16"),
        "{info:?}"
    );
    assert_eq!((info.vocab_size, info.context_size), (600, 2048));
    assert!(info.parameters > 50_000 && info.size_bytes > 100_000);
    assert!(!info.cpu.is_empty() && !info.has_chat_template);
    // Heads too narrow for eight-bit keys, and a context that no memory holds.
    let narrow = random_model("narrow", "1,32,64,2,1,300", "f32");
    let mut wanted = load(&narrow);
    wanted.kv_type = KvType::Q8_0;
    Engine::start(&[]).load(&wanted).unwrap();
    wanted.context_size = u32::MAX;
    let failure = Engine::start(&[]).load(&wanted).unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure}");
    std::fs::remove_file(narrow).unwrap();
}

#[test]
fn greedy_and_seeded_answers_repeat() {
    let mut engine = Engine::with_model(tiny_model());
    let greedy = engine.ask(first(40, chat(1, "Hello"))).text;
    assert!(!greedy.is_empty());
    assert_eq!(engine.ask(first(40, chat(2, "Hello"))).text, greedy);
    let mut sampled = |id, seed| {
        let sampling = Sampling {
            temperature: Some(1.5),
            top_k: Some(100),
            top_p: Some(0.95),
            min_p: Some(0.01),
            repeat_penalty: Some(1.1),
            seed: Some(seed),
            ..Sampling::default()
        };
        engine
            .ask(first(
                40,
                GenerateRequest {
                    sampling,
                    ..chat(id, "Hello")
                },
            ))
            .text
    };
    let one = sampled(3, 7);
    assert_eq!(sampled(4, 7), one);
    assert_ne!(sampled(5, 8), one);
    let sampling = Sampling {
        temperature: Some(-1.0),
        ..Sampling::default()
    };
    let refused = engine.ask(GenerateRequest {
        sampling,
        ..chat(6, "Hello")
    });
    assert_eq!(refused.failure().kind, FailureKind::InvalidArgs);
}

#[test]
fn max_tokens_stop_strings_and_the_end_of_the_context() {
    let mut engine = Engine::start(&[]);
    let mut wanted = load(tiny_model());
    wanted.context_size = 256;
    wanted.kv_type = KvType::Q8_0;
    let info = engine.load(&wanted).unwrap();
    let answer = engine.ask(first(5, chat(1, "Hi")));
    assert_eq!((answer.tokens, answer.reason()), (5, FinishReason::Length));
    // Random weights: whatever comes, its second half must stop it.
    let text = engine.ask(first(20, chat(2, "Hi"))).text;
    let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let stop = text[middle..].to_owned();
    let before = text[..text.find(&stop).unwrap()].to_owned();
    let stopped = engine.ask(first(
        40,
        GenerateRequest {
            stop: vec![stop],
            ..chat(3, "Hi")
        },
    ));
    assert_eq!(
        (stopped.text, stopped.end.unwrap().unwrap().0),
        (before, FinishReason::Stop)
    );

    let answer = engine.ask(chat(4, "Hi"));
    if answer.reason() == FinishReason::Length {
        assert_eq!(answer.prompt_tokens + answer.tokens, info.context_size);
    }
    let long = engine.ask(request(5, Prompt::Text("z".repeat(300))));
    assert_eq!(long.failure().kind, FailureKind::ContextTooLong);
    let message = &long.failure().message;
    assert!(
        message.contains("has 300 tokens") && message.contains("holds 256"),
        "{message}"
    );
    // Just below the limit works.
    let full = engine.ask(request(6, Prompt::Text("z".repeat(255))));
    assert_eq!((full.prompt_tokens, full.tokens), (255, 1));
}

#[test]
fn control_tokens_count_as_one_and_text_in_bytes() {
    let mut engine = Engine::with_model(tiny_model());
    for (text, tokens) in [("<|im_start|>", 1), ("añ🔥", 7), ("", 0)] {
        engine.send(&Command::Count {
            id: RequestId(1),
            text: text.into(),
        });
        assert_eq!(
            engine.next(),
            Event::Counted {
                id: RequestId(1),
                tokens
            }
        );
    }
    engine.send(&Command::Count {
        id: RequestId(2),
        text: "x".repeat(2_000_000),
    });
    assert!(matches!(engine.next(), Event::Failed { .. }));
}

#[test]
fn threads_change_while_it_answers() {
    let mut engine = Engine::with_model(tiny_model());
    engine.send(&limited(1));
    let alone = engine.ask(first(200, chat(1, "Count"))).text;
    engine.send(&Command::Generate(first(200, chat(2, "Count"))));
    // 99 is over the pool, 0 below one: both are clamped.
    for threads in [2, 1, 99, 0, 2] {
        engine.send(&limited(threads));
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(engine.collect(2).text, alone);
}

#[test]
fn a_cancel_cuts_a_prefill_short() {
    let model = random_model("wide", "8,512,2048,8,2,600", "q4_0");
    let mut engine = Engine::start(&[]);
    let mut wanted = load(&model);
    wanted.context_size = 8192;
    // The longest chunks that there are.
    wanted.limits.prefill_chunk = 8000;
    engine.load(&wanted).unwrap();
    std::fs::remove_file(&model).unwrap();
    engine.send(&Command::Generate(first(
        1,
        request(1, Prompt::Text("y".repeat(8000))),
    )));
    engine.until(|e| matches!(e, Event::Started { .. }));
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    engine.send(&Command::Cancel { id: RequestId(1) });
    assert_eq!(engine.collect(1).failure().kind, FailureKind::Cancelled);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    println!("cancelled in {took:?}");
    // The context is usable afterwards.
    assert_eq!(engine.ask(first(3, chat(2, "Still there?"))).tokens, 3);
}

#[test]
fn an_idle_engine_uses_no_cpu() {
    let mut engine = Engine::with_model(tiny_model());
    engine.send(&limited(2));
    engine.ask(first(20, chat(1, "Warm up")));
    std::thread::sleep(Duration::from_millis(100));
    let before = engine.cpu_seconds();
    std::thread::sleep(Duration::from_secs(1));
    let used = engine.cpu_seconds() - before;
    assert!(used < 0.02, "{used} s of CPU in one idle second");
}
