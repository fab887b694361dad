//! What Ollama's API shows of real models, and what real engines do with its fields.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Daemon, Engine, Setup};
use crate::ollama::{ask, one};
use crate::real_models::real_model;

const MODEL: &str = "hearth-demo-q8_0:latest";
/// The most tokens of a text that are embedded at once.
const EMBEDDED_MAX: u32 = 2048;

/// Role and text of one message.
fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

/// A greedy chat with these fields.
fn chat(daemon: &Daemon, more: &Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": user("What is the capital of Italy?"),
        "stream": false, "options": {"temperature": 0}});
    let (body_fields, more) = (body.as_object_mut().unwrap(), more.as_object().unwrap());
    body_fields.extend(more.clone());
    one(daemon, "/api/chat", &body)
}

#[test]
fn logprobs_are_those_of_the_answer() {
    let daemon = Daemon::real();
    let answer = chat(&daemon, &json!({"logprobs": true, "top_logprobs": 2}));
    let logprobs = answer["logprobs"].as_array().unwrap();
    assert_eq!(answer["eval_count"].as_u64(), Some(logprobs.len() as u64));
    let bytes = logprobs
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap());
    let bytes: Vec<u8> = bytes
        .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
        .collect();
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.starts_with(answer["message"]["content"].as_str().unwrap()),
        "{answer}"
    );
    for token in logprobs {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(
            (top.len(), &top[0]["token"]),
            (2, &token["token"]),
            "greedy"
        );
        assert_eq!(top[0]["logprob"], token["logprob"]);
    }
    assert_eq!(
        chat(&daemon, &json!({"top_logprobs": 2})).get("logprobs"),
        None
    );
}

#[test]
fn num_ctx_bounds_prompt_and_answer() {
    let daemon = Daemon::real();
    let whole = chat(&daemon, &json!({"options": {"temperature": 0}}));
    let (prompt, all) = (&whole["prompt_eval_count"], &whole["eval_count"]);
    let (prompt, all) = (prompt.as_u64().unwrap(), all.as_u64().unwrap());
    assert!(all > 2, "{whole}");
    let options = json!({"options": {"temperature": 0, "num_ctx": prompt + 2}});
    let cut = chat(&daemon, &options);
    assert_eq!(
        (&cut["done_reason"], &cut["eval_count"]),
        (&json!("length"), &json!(2))
    );
    let larger = json!({"options": {"temperature": 0, "num_ctx": 1_000_000}});
    assert_eq!(chat(&daemon, &larger)["message"], whole["message"]);
    // A prompt that is longer is answered as far as the loaded context goes.
    let smaller = json!({"options": {"temperature": 0, "num_ctx": prompt - 1}});
    assert_eq!(chat(&daemon, &smaller)["message"], whole["message"]);
}

#[test]
fn a_long_text_is_cut_before_it_is_embedded() {
    let daemon = Daemon::real();
    let mut body = json!({"model": MODEL, "input": "word ".repeat(2000)});
    let made = one(&daemon, "/api/embed", &body);
    assert_eq!(made["prompt_eval_count"], EMBEDDED_MAX);
    body["truncate"] = false.into();
    let (code, lines) = ask(&daemon, "/api/embed", &body);
    assert_eq!(code, 400, "{lines:?}");
    let short = json!({"model": MODEL, "input": "a cat", "dimensions": 8});
    let short = one(&daemon, "/api/embed", &short);
    let vector = short["embeddings"][0].as_array().unwrap();
    let square: f64 = vector.iter().map(|v| v.as_f64().unwrap().powi(2)).sum();
    assert!(
        vector.len() == 8 && (square - 1.0).abs() < 1e-4,
        "{vector:?}"
    );
}

#[test]
fn a_derived_model_answers_with_its_settings() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[dbus]\nmodel_admins = \"group\"\n",
        ..Setup::default()
    });
    let create = json!({"model": "cut", "from": MODEL, "stream": false,
        "parameters": {"num_predict": 2, "temperature": 0}});
    assert_eq!(one(&daemon, "/api/create", &create)["status"], "success");
    let body =
        json!({"model": "cut", "messages": user("What is the capital of Italy?"), "stream": false});
    let answer = one(&daemon, "/api/chat", &body);
    assert_eq!(
        (&answer["done_reason"], &answer["eval_count"]),
        (&json!("length"), &json!(2))
    );
}

#[test]
fn capabilities_are_those_of_real_models() {
    let daemon = Daemon::real();
    for (name, expected, key) in [
        (
            "qwen2.5-coder-0.5b",
            &["completion", "tools", "insert"][..],
            "qwen2.context_length",
        ),
        ("smollm2-135m", &["completion"], "llama.context_length"),
    ] {
        let Some(model) = real_model(name) else {
            continue;
        };
        fs::copy(model, daemon.models().join("real.gguf")).unwrap();
        let shown = one(&daemon, "/api/show", &json!({"model": "real"}));
        assert_eq!(shown["capabilities"], json!(expected), "{name}");
        assert!(
            shown["model_info"][key].as_u64() > Some(0),
            "{name}: {shown}"
        );
        let has_template = shown["template"]
            .as_str()
            .is_some_and(|text| text.contains("{%"));
        assert_eq!(has_template, expected.contains(&"completion"), "{name}");
    }
}
