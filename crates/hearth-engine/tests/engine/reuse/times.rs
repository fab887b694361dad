//! Time to the first token, by the source of the prompt's prefix.

use std::time::{Duration, Instant};

use hearth_proto::{Command, Event, GenerateRequest, LoadRequest, RequestId, Reuse};

use super::{disk, plain, shut_down, start};
use crate::harness::{Engine, family_model, load};
use crate::real_model::real_model;

/// Tokens of the common prefix, approximately.
const TOKENS: usize = 3000;

/// Time to the first token, and how many tokens were reused.
fn first_token(engine: &mut Engine, id: u64, request: GenerateRequest) -> (Duration, u32) {
    let began = Instant::now();
    engine.send(&Command::Generate(GenerateRequest {
        id: RequestId(id),
        ..request
    }));
    let (mut took, mut cached) = (Duration::ZERO, 0);
    loop {
        match engine.next() {
            Event::Started { cached_tokens, .. } => cached = cached_tokens,
            Event::Token { .. } if took.is_zero() => took = began.elapsed(),
            Event::Finished { .. } => return (took, cached),
            Event::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
}

fn measure(kind: &str, name: &str, path: &std::path::Path, sentence: &str, times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let load = LoadRequest {
        context_size: 4096,
        kept_tokens: 4096,
        cache: Some(disk(dir.path())),
        ..load(path)
    };
    let system = sentence.repeat(times);
    let asked = |question: &str| GenerateRequest {
        logprobs: None,
        ..plain(0, format!("{system}{question}"))
    };
    let mut engine = start(&load);
    let cold = first_token(
        &mut engine,
        1,
        GenerateRequest {
            reuse: Reuse::Denied,
            ..asked("What is on?")
        },
    );
    for (id, question) in [(2, "What is on?"), (3, "And the hall?")] {
        first_token(&mut engine, id, asked(question));
    }
    let shared = first_token(&mut engine, 4, asked("Who asks?"));
    shut_down(engine);
    let restored = first_token(&mut start(&load), 1, asked("Good morning?"));
    println!(
        "| {kind} | {name} | {:.0} ms | {:.0} ms ({} reused) | {:.0} ms ({} reused) |",
        cold.0.as_secs_f64() * 1e3,
        shared.0.as_secs_f64() * 1e3,
        shared.1,
        restored.0.as_secs_f64() * 1e3,
        restored.1,
    );
}

#[test]
#[ignore = "a measurement: `cargo test --release --workspace --test engine first_token_times -- --ignored --nocapture`"]
fn first_token_times() {
    // 15 tokens of these models' vocabularies, and 48 of the synthetic ones'.
    let sentence = "The lamp in the kitchen is on, the one in the hall is off. ";
    for (kind, name) in [
        ("full attention", "smollm2-135m-instruct-q4_1.gguf"),
        ("full attention", "qwen2.5-coder-0.5b-q4_k_m.gguf"),
        ("sliding window", "gemma3-270m-q4_k_m.gguf"),
    ] {
        if let Some(path) = real_model(name) {
            measure(kind, name, &path, sentence, TOKENS / 16);
        }
    }
    for name in ["lfm2", "qwen35", "granite-hybrid", "mamba"] {
        let path = family_model(name);
        let kind = "states, random weights";
        measure(kind, name, &path, sentence, TOKENS / sentence.len());
        std::fs::remove_file(path).unwrap();
    }
}
