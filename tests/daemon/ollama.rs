//! Ollama's API through `curl`, and with the requests of Home Assistant.

use std::fs;

use hearth_gguf::synthetic::{Encoder, make_encoder};
use serde_json::{Value, json};

use crate::harness::{Daemon, Engine, Setup, ok, root};

/// Recorded from Home Assistant 2026.11.0 with a demo home, one request per line.
const HOME_ASSISTANT: &str = include_str!("fixtures/home_assistant_ollama.jsonl");

const MODEL: &str = "hearth-demo-q8_0:latest";
const QUESTION: &str = "What is the capital of Italy?";

/// Status and lines of an answer.
pub fn ask(daemon: &Daemon, path: &str, body: &Value) -> (u32, Vec<Value>) {
    send(daemon, path, &["-d", &body.to_string()])
}

fn send(daemon: &Daemon, path: &str, args: &[&str]) -> (u32, Vec<Value>) {
    let args = [args, &["-N", "-w", "\n%{http_code}"]].concat();
    let said = ok(&daemon.curl(path, &args));
    let (lines, code) = said.rsplit_once('\n').unwrap();
    let parse = |l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {said}"));
    // A stream has no blank line, which would break clients.
    let lines = lines.strip_suffix('\n').unwrap_or(lines);
    let lines = lines.split('\n').filter(|_| !lines.is_empty()).map(parse);
    (code.parse().unwrap(), lines.collect())
}

/// The only object of a successful response.
pub fn one(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let (code, mut lines) = ask(daemon, path, body);
    assert_eq!((code, lines.len()), (200, 1), "{body}: {lines:?}");
    lines.remove(0)
}

fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

/// Joins this field of the message over all lines.
fn told(lines: &[Value], field: &str) -> String {
    let texts = lines.iter().filter_map(|l| l["message"][field].as_str());
    texts.collect()
}

pub fn is_loaded(daemon: &Daemon) -> bool {
    daemon.engine_pid().is_some()
}

#[test]
fn chat_answers_plain_and_streamed() {
    let daemon = Daemon::real();
    let body = json!({"model": MODEL, "messages": user(QUESTION), "options": {"temperature": 0}});
    let (code, lines) = ask(&daemon, "/api/chat", &body);
    assert_eq!(code, 200);
    let (last, parts) = lines.split_last().unwrap();
    assert!(parts.len() > 2 && parts.iter().all(|l| l["done"] == false));
    for line in &lines {
        assert_eq!(line["model"], MODEL);
        assert_eq!(line["message"]["role"], "assistant");
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'));
    }
    let answer = told(&lines, "content");
    assert!(answer.contains("Rome"), "{answer}");
    assert_eq!(
        (
            &last["done"],
            &last["done_reason"],
            &last["message"]["content"]
        ),
        (&json!(true), &json!("stop"), &json!(""))
    );
    for figure in [
        "total_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ] {
        assert!(last[figure].as_u64().unwrap() > 0, "{figure}: {last}");
    }
    let head = ok(&daemon.curl("/api/chat", &["-D-", "-d", &body.to_string()]));
    assert!(
        head.to_lowercase()
            .contains("content-type: application/x-ndjson"),
        "{head}"
    );

    let mut plain = body.clone();
    plain["stream"] = false.into();
    let whole = one(&daemon, "/api/chat", &plain);
    assert_eq!(whole["message"]["content"], answer);
    assert_eq!(
        (&whole["done"], &whole["eval_count"]),
        (&json!(true), &last["eval_count"])
    );
}

#[test]
fn generate_answers_plain_and_streamed() {
    let daemon = Daemon::real();
    // If no model is named, the answer names it.
    let mut body = json!({"prompt": QUESTION, "options": {"temperature": 0, "num_predict": 2}});
    let (_, lines) = ask(&daemon, "/api/generate", &body);
    let streamed: String = lines
        .iter()
        .filter_map(|l| l["response"].as_str())
        .collect();
    body["stream"] = false.into();
    let whole = one(&daemon, "/api/generate", &body);
    assert_eq!(
        (&whole["response"], &whole["model"]),
        (&json!(streamed), &json!(MODEL))
    );
    assert_eq!(
        (&whole["done_reason"], &whole["eval_count"]),
        (&json!("length"), &json!(2))
    );
    // Raw text is not rendered with a template.
    let raw =
        json!({"prompt": QUESTION, "raw": true, "stream": false, "options": {"num_predict": 1}});
    let raw = one(&daemon, "/api/generate", &raw);
    assert!(raw["prompt_eval_count"].as_u64() < whole["prompt_eval_count"].as_u64());
}

/// Sends a recorded request with the name of this model; returns its body and the answer.
fn replay(daemon: &Daemon, recorded: &Value) -> (Value, u32, Vec<Value>) {
    let field = |name: &str| recorded[name].as_str().unwrap();
    assert_eq!((field("method"), field("path")), ("POST", "/api/chat"));
    let text = field("body").replace("tiny-local:latest", MODEL);
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["model"], MODEL);
    let mut args = vec!["--data-binary".to_owned(), text];
    for header in recorded["headers"].as_array().unwrap() {
        let part = |n: usize| header[n].as_str().unwrap();
        args.extend(["-H".into(), format!("{}: {}", part(0), part(1))]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (code, lines) = send(daemon, "/api/chat", &args);
    (body, code, lines)
}

#[test]
fn recorded_requests_of_home_assistant_are_answered() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ncontext = 8192\n",
        ..Setup::default()
    });
    let (_, tags) = send(&daemon, "/api/tags", &[]);
    let listed = tags[0]["models"].as_array().unwrap().iter();
    let mut listed = listed.map(|model| &model["model"]);
    assert!(listed.any(|name| name == MODEL), "{tags:?}");
    let mut count = 0;
    for (n, line) in HOME_ASSISTANT.lines().enumerate() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let (body, code, lines) = replay(&daemon, &recorded);
        let last = lines.last().unwrap();
        let has_pictures = !body["messages"][1]["images"].is_null();
        if has_pictures {
            assert_eq!((code, lines.len()), (400, 1), "{n}: {last}");
            assert!(
                last["error"]
                    .as_str()
                    .unwrap()
                    .contains("takes no pictures")
            );
        } else {
            assert_eq!((code, &last["done"]), (200, &json!(true)), "{n}: {last}");
            let calls = lines
                .iter()
                .filter_map(|l| l["message"]["tool_calls"].as_array());
            for call in calls.flatten() {
                assert!(call["function"]["arguments"].is_object(), "{n}: {call}");
            }
        }
        if body["format"].is_object() && last["done_reason"] == "stop" {
            let filled: Value = serde_json::from_str(&told(&lines, "content")).unwrap();
            for name in body["format"]["required"].as_array().into_iter().flatten() {
                assert!(filled[name.as_str().unwrap()].is_string(), "{n}: {filled}");
            }
        }
        count += 1;
    }
    assert_eq!(count, 9);
    // It requested a keep-alive twice: unlimited, and five minutes.
    let (_, running) = send(&daemon, "/api/ps", &[]);
    let running = &running[0]["models"][0];
    assert_eq!(
        (&running["model"], &running["context_length"]),
        (&json!(MODEL), &json!(8192))
    );
}

#[test]
fn the_demo_model_calls_a_tool() {
    let daemon = Daemon::real();
    let heldout = fs::read_to_string(root().join("packaging/demo-model/heldout.jsonl")).unwrap();
    let line = heldout.lines().find(|l| l.contains("accept_call")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let body = json!({"messages": line["messages"], "tools": line["tools"], "options": {"temperature": 0}});
    let (_, lines) = ask(&daemon, "/api/chat", &body);
    let mut calls = lines
        .iter()
        .filter(|l| !l["message"]["tool_calls"].is_null());
    let call = calls.next().unwrap_or_else(|| panic!("{lines:?}"));
    let function = &call["message"]["tool_calls"][0]["function"];
    let wanted = &line["accept_call"];
    assert_eq!(function["name"], wanted["name"], "{line}");
    assert_eq!(function["arguments"], wanted["arguments"], "{line}");
}

#[test]
fn an_answer_matches_its_format() {
    let daemon = Daemon::real();
    let schema = json!({"type": "object", "required": ["n"], "additionalProperties": false,
        "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}}});
    // A string inside JSON may continue until the context is full.
    for (format, most) in [(schema, -1), (json!("json"), 256)] {
        let options = json!({"seed": 7, "num_predict": most});
        let body = json!({"messages": user("Say a number."), "format": format, "options": options});
        let (code, lines) = ask(&daemon, "/api/chat", &body);
        assert_eq!(code, 200);
        if lines.last().unwrap()["done_reason"] == "length" {
            assert_eq!(format, "json", "a bounded form has an end");
            continue;
        }
        let said: Value = serde_json::from_str(&told(&lines, "content")).unwrap();
        assert!(said.is_object());
        if format.is_object() {
            assert!((3..=5).contains(&said["n"].as_i64().unwrap()), "{said}");
        }
    }
}

#[test]
fn models_are_shown_copied_and_deleted() {
    let daemon = Daemon::real();
    let packaged = root().join("packaging/demo-model/hearth-demo-q8_0.gguf");
    fs::copy(packaged, daemon.models().join("mine.gguf")).unwrap();
    let shown = one(&daemon, "/api/show", &json!({"model": "mine:latest"}));
    assert_eq!(shown["details"]["format"], "gguf");
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert!(
        shown["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("completion"))
    );
    for body in [
        json!({"model": "mine"}),
        json!({"name": "mine:latest", "stream": true}),
    ] {
        let (code, lines) = ask(&daemon, "/api/pull", &body);
        assert_eq!(
            (code, &lines.last().unwrap()["status"]),
            (200, &json!("success"))
        );
    }
    let pulled = one(
        &daemon,
        "/api/pull",
        &json!({"model": "mine", "stream": false}),
    );
    assert_eq!(pulled, json!({"status": "success"}));

    let copy = |from: &str, to: &str| {
        let body = json!({"source": from, "destination": to});
        ask(&daemon, "/api/copy", &body).0
    };
    assert_eq!(copy("mine", "other:latest"), 200);
    assert_eq!(copy("mine", "other"), 400);
    assert_eq!(copy("mine", "../other"), 400);
    assert_eq!(copy("none", "third"), 404);
    let delete = |body: Value| {
        send(
            &daemon,
            "/api/delete",
            &["-X", "DELETE", "-d", &body.to_string()],
        )
        .0
    };
    assert_eq!(delete(json!({"model": "mine:latest"})), 200);
    assert_eq!(delete(json!({"model": "mine"})), 404);
    assert_eq!(delete(json!({"model": ""})), 400);
    assert_eq!(delete(json!({"model": "hearth-demo-q8_0"})), 403);
    assert!(!daemon.models().join("mine.gguf").exists());
    let body = json!({"model": "other", "messages": user("What is the capital of Italy?")});
    assert!(told(&ask(&daemon, "/api/chat", &body).1, "content").contains("Rome"));
}

/// As Ollama does for a model without a template.
#[test]
fn generate_continues_the_prompt_with_a_base_model() {
    let daemon = Daemon::real();
    make_encoder(&daemon.models().join("base.gguf"), Encoder::Plain, 5).unwrap();
    let asked = |more: &Value| {
        let mut body = json!({"model": "base", "prompt": "Once upon a time", "stream": false,
            "options": {"temperature": 0, "num_predict": 4}});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one(&daemon, "/api/generate", &body)
    };
    let raw = asked(&json!({"raw": true}));
    let plain = asked(&json!({}));
    assert_eq!(plain["prompt_eval_count"], raw["prompt_eval_count"]);
    let with_system = asked(&json!({"system": "A fairy tale."}));
    assert!(with_system["prompt_eval_count"].as_u64() > raw["prompt_eval_count"].as_u64());
    let chat = json!({"model": "base", "messages": user("Once"), "stream": false});
    let (code, lines) = ask(&daemon, "/api/chat", &chat);
    assert_eq!(code, 400, "{lines:?}");
}
