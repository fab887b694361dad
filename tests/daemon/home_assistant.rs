//! Recorded requests of Home Assistant's own `llama_cpp` integration.

use serde_json::Value;

use crate::harness::{Daemon, Engine, Setup, ok};

/// One request per line, of Home Assistant 2026.11 with a demo home.
const REQUESTS: &str = include_str!("fixtures/home_assistant_llama_cpp.jsonl");

/// Sends a recorded request unchanged, to `model`.
fn replay(daemon: &Daemon, recorded: &Value, model: &str) -> String {
    let field = |name: &str| recorded[name].as_str().unwrap_or_default();
    let body = field("body").replace("\"tiny-local\"", &format!("\"{model}\""));
    let headers: Vec<String> = recorded["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|header| {
            let part = |n: usize| header[n].as_str().unwrap();
            format!("{}: {}", part(0), part(1))
        })
        // curl would print the compressed response.
        .filter(|header| !header.starts_with("Accept-Encoding"))
        .collect();
    let mut args = vec!["-N", "--fail-with-body", "-X", field("method")];
    for header in &headers {
        args.extend(["-H", header]);
    }
    if !body.is_empty() {
        args.extend(["--data-binary", &body]);
    }
    ok(&daemon.curl(field("path"), &args))
}

#[test]
fn every_request_of_the_llama_cpp_integration_is_answered() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ncontext = 8192\n",
        ..Setup::default()
    });
    let mut streams = 0;
    for (n, line) in REQUESTS.lines().enumerate() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let said = replay(&daemon, &recorded, "hearth-demo-q8_0");
        let body: Value =
            serde_json::from_str(recorded["body"].as_str().unwrap_or_default()).unwrap_or_default();
        if recorded["method"] == "GET" {
            let models: Value = serde_json::from_str(&said).unwrap();
            let mut ids = models["data"].as_array().unwrap().iter().map(|m| &m["id"]);
            assert!(ids.any(|id| id == "hearth-demo-q8_0"), "{said}");
        } else if body["stream"] == true {
            streams += 1;
            assert!(said.trim_end().ends_with("data: [DONE]"), "{n}: {said}");
            let chunks: Vec<Value> = said
                .lines()
                .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
                .collect();
            let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
            let ends = choices.clone().filter(|c| c["finish_reason"].is_string());
            assert_eq!(ends.count(), 1, "{n}: {said}");
            assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
            let calls = choices.filter_map(|c| c["delta"]["tool_calls"].as_array());
            for call in calls.flatten() {
                let arguments = call["function"]["arguments"].as_str().unwrap();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                assert!(arguments.is_object(), "{n}: {call}");
            }
        } else {
            let answer: Value = serde_json::from_str(&said).unwrap();
            let message = &answer["choices"][0]["message"];
            assert_eq!(message["role"], "assistant", "{n}: {said}");
        }
    }
    assert!(streams > 0);
}
