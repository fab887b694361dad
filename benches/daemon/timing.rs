//! Timing of one answer, by the client's clock.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use zbus::Variant;

use crate::client::{Bus, post};
use crate::harness::{Daemon, ok};
use crate::{Bench, engine};

/// Times and counts of one answer, seen by the client.
#[derive(Default)]
pub struct Timing {
    /// From the request to the first token.
    pub to_first: Duration,
    /// From the first token to the last.
    pub decoding: Duration,
    pub tokens: u32,
    /// Events with tokens: one for each decode.
    pub decodes: u32,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    /// Time that the engine spent in `llama_decode` on the answer.
    pub decode_ms: f64,
}

impl Timing {
    /// The first token belongs to the prompt: its time is not included.
    pub fn per_second(&self) -> f64 {
        f64::from(self.tokens.saturating_sub(1)) / self.decoding.as_secs_f64()
    }

    /// Milliseconds to the first token.
    pub fn first_ms(&self) -> f64 {
        self.to_first.as_secs_f64() * 1000.0
    }

    /// Microseconds per token that were not spent in `llama_decode`.
    pub fn outside_us(&self) -> f64 {
        let outside = self.decoding.as_secs_f64() * 1e6 - self.decode_ms * 1e3;
        outside / f64::from(self.tokens.saturating_sub(1).max(1))
    }
}

/// A greedy request for this many tokens, with a system prompt if it is not empty.
pub fn request(system: &str, question: &str, tokens: u32) -> Value {
    let mut messages = vec![serde_json::json!({"role": "user", "content": question})];
    if !system.is_empty() {
        messages.insert(0, serde_json::json!({"role": "system", "content": system}));
    }
    serde_json::json!({"messages": messages, "temperature": 0, "max_tokens": tokens})
}

/// Sends it through `OpenStream`.
pub fn by_bus(bus: &Bus, request: &Value, priority: &str) -> Timing {
    let began = Instant::now();
    let options = HashMap::from([("priority", Variant::from(priority))]);
    let events = bus.open_stream(request, &options).unwrap();
    let mut timing = Timing::default();
    let mut first = None;
    for line in BufReader::new(events).lines() {
        let now = Instant::now();
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["type"].as_str() {
            Some("started") => {
                timing.prompt_tokens = event["prompt_tokens"].as_u64().unwrap();
                timing.cached_tokens = event["cached_tokens"].as_u64().unwrap();
            }
            Some("token") => {
                let generated = event["generated"].as_u64().unwrap();
                let generated = u32::try_from(generated).unwrap();
                timing.decodes += u32::from(generated > timing.tokens);
                timing.tokens = generated;
                let first = *first.get_or_insert(now);
                timing.to_first = first - began;
                timing.decoding = now - first;
            }
            Some("finished") => timing.decode_ms = event["usage"]["decode_ms"].as_f64().unwrap(),
            Some("failed") => panic!("{event}"),
            _ => {}
        }
    }
    timing
}

/// Sends it over HTTP, with a stream. The engine's own figures are not included.
pub fn by_http(daemon: &Daemon, mut request: Value) -> Timing {
    request["stream"] = true.into();
    request["stream_options"] = serde_json::json!({"include_usage": true});
    let began = Instant::now();
    let mut timing = Timing::default();
    let mut first = None;
    for line in BufReader::new(post(daemon, &request)).lines() {
        let now = Instant::now();
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(data).unwrap();
        assert!(event["error"].is_null(), "{event}");
        if event["choices"][0]["delta"]["content"].is_string() {
            let first = *first.get_or_insert(now);
            timing.to_first = first - began;
            timing.decoding = now - first;
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            timing.tokens = u32::try_from(tokens).unwrap();
        }
    }
    timing
}

/// Tokens per second of the bare engine loop: no daemon, no socket, no text.
pub fn bare(bench: &Bench, tokens: u32) -> f64 {
    let output = Command::new(engine())
        .arg("bench")
        .arg(&bench.model)
        .args(["--prompt-tokens", "16", "--runs", "1", "--json"])
        .args(["--threads", &bench.threads.to_string()])
        .args(["--tokens", &tokens.to_string()])
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(ok(&output).trim()).unwrap();
    report["decode_tokens_per_s"].as_f64().unwrap()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
