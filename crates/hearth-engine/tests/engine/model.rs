//! llama.cpp with random weights: requests have their effect, whatever the text is.

use std::time::{Duration, Instant};

use hearth_proto::{
    Command, Event, FailureKind, GenerateRequest, KvType, Limits, Prompt, RequestId,
};

use crate::answers::first;
use crate::harness::{Engine, chat, load, random_model, request, tiny_model};

fn limited(threads: u32) -> Command {
    Command::SetLimits(Limits {
        threads,
        ..Limits::default()
    })
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
    // Heads too narrow for eight-bit keys, and a context larger than any memory.
    let narrow = random_model("narrow", "1,32,64,2,1,300", "f32");
    let mut wanted = load(&narrow);
    wanted.kv_type = KvType::Q8_0;
    Engine::start(&[]).load(&wanted).unwrap();
    // The requested size, without the room for cached prefixes and llama.cpp's rounding.
    (wanted.context_size, wanted.kept_tokens) = (1000, 267);
    let info = Engine::start(&[]).load(&wanted).unwrap();
    assert_eq!(info.context_size, 1000);
    assert!(info.kv_tokens >= 1267);
    wanted.context_size = u32::MAX;
    let failure = Engine::start(&[]).load(&wanted).unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure}");
    std::fs::remove_file(narrow).unwrap();
}

#[test]
fn control_tokens_are_one_and_text_is_bytes() {
    let mut engine = Engine::with_model(tiny_model());
    let id = RequestId(1);
    let tokenize = |text: &str| Command::Tokenize {
        id,
        text: text.into(),
        bos: true,
        plain: false,
        pieces: false,
    };
    // Control tokens have no text.
    for (text, expected, back) in [("<|im_start|>", 1, ""), ("añ🔥", 7, "añ🔥"), ("", 0, "")]
    {
        engine.send(&tokenize(text));
        let Event::Tokenized { tokens, .. } = engine.next() else {
            panic!("{text}");
        };
        assert_eq!(tokens.len(), expected, "{text}");
        engine.send(&Command::Detokenize { id, tokens });
        let text = back.to_owned();
        assert_eq!(engine.next(), Event::Detokenized { id, text });
    }
    // Token ids outside the vocabulary have no text.
    let tokens = vec![i32::MIN, -1, 97, 600, i32::MAX];
    engine.send(&Command::Detokenize { id, tokens });
    let text = "a".to_owned();
    assert_eq!(engine.next(), Event::Detokenized { id, text });
    engine.send(&tokenize(&"x".repeat(2_000_000)));
    assert!(matches!(engine.next(), Event::Failed { .. }));
}

/// The same random weights give similar predictions in every storage type: a block that
/// llama.cpp reads differently than it was written would give unrelated ones.
#[test]
fn made_models_are_read_as_they_were_written() {
    let likeliest = |shape: &str, element: &str| -> Vec<Vec<u8>> {
        let model = random_model(&format!("form-{element}"), shape, element);
        let mut engine = Engine::with_model(&model);
        std::fs::remove_file(&model).unwrap();
        engine.send(&Command::Generate(GenerateRequest {
            logprobs: Some(20),
            ..first(1, chat(1, "Which words are likely here?"))
        }));
        let Event::Token { logprobs, .. } = engine.until(|e| matches!(e, Event::Token { .. }))
        else {
            unreachable!("asked for a token")
        };
        logprobs[0]
            .top
            .iter()
            .map(|(bytes, _)| bytes.clone())
            .collect()
    };
    // Rows of 256 and 512 elements have K blocks, rows of 96 and 160 the fallback type.
    for shape in ["3,256,512,4,2,2000", "3,96,160,2,1,2000"] {
        let exact = likeliest(shape, "f32");
        for element in ["f16", "q8_0", "q4_0", "q4_k_m"] {
            let found = likeliest(shape, element);
            let same = found.iter().filter(|token| exact.contains(token)).count();
            println!("{shape} {element}: {same} of 20");
            // By chance the mean is 0.2.
            assert!(same >= 5, "{shape} {element}: {same} of 20");
        }
    }
}

#[test]
fn threads_change_while_it_answers() {
    let mut engine = Engine::with_model(tiny_model());
    engine.send(&limited(1));
    let alone = engine.ask(first(200, chat(1, "Count"))).text;
    engine.send(&Command::Generate(first(200, chat(2, "Count"))));
    // 99 is above the size of the pool, 0 is below 1: both are clamped.
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
    // The longest possible chunks.
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
