//! Input designed to be expensive, while others wait for their answers.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::client::{Bus, Streamed, chat, content, counted, post, reply, send};
use crate::harness::{Daemon, Engine, Setup};

#[test]
fn a_huge_prompt_does_not_affect_other_requests() {
    let daemon = Daemon::fake("token-ms=4");
    let bus = Bus::connect(&daemon);
    let long = counted(100);
    let other = Streamed::open(&daemon, chat(&long));
    for (bytes, status, code) in [
        (500_000, "400", "context_length_exceeded"),
        (4 << 20, "400", "context_length_exceeded"),
        (9 << 20, "413", "invalid_request"),
    ] {
        let prompt = "word ".repeat(bytes / 5);
        for stream in [false, true] {
            let mut request = chat(&prompt);
            request["stream"] = stream.into();
            let (head, answer) = reply(post(&daemon, &request));
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
            assert_eq!(answer["error"]["code"], code, "{answer}");
            let said = answer["error"]["message"].as_str().unwrap();
            assert!(
                said.len() < 300,
                "it is not said back: {} bytes",
                said.len()
            );
        }
        let said = bus.generate(&prompt).unwrap_err();
        assert!(said.contains("Error.ContextTooLong"), "{said:.300}");
    }
    let (text, error) = other.end();
    assert!(error.is_null(), "{error}");
    assert_eq!(text, long);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

/// Schemas, and whether they must be rejected (otherwise either result is correct).
fn bombs() -> Vec<(&'static str, String, bool)> {
    let nested = |depth: usize| {
        let open = r#"{"type":"object","required":["a"],"properties":{"a":"#;
        format!("{}{{}}{}", open.repeat(depth), "}}".repeat(depth))
    };
    let names: Vec<String> = (0..20_000).map(|n| format!("value number {n}")).collect();
    let fewer: Vec<String> = (0..5_000).map(|n| format!("value number {n}")).collect();
    let only = |name: String| json!({"properties": {&name: {"type": "null"}}, "required": [name]});
    let options: Vec<Value> = (0..30)
        .map(|n| json!({"anyOf": [only(format!("a{n}")), only(format!("b{n}"))]}))
        .collect();
    // Each level repeats the one below it ten times.
    let levels: Value = (0..9)
        .map(|n| {
            let below = json!({"$ref": format!("#/$defs/l{}", n + 1)});
            let items = json!({"type": "array", "items": below, "minItems": 10, "maxItems": 10});
            (format!("l{n}"), items)
        })
        .chain([("l9".to_owned(), json!({"type": "null"}))])
        .collect();
    let to = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    vec![
        ("40 levels", nested(40), true),
        ("10,000 levels", nested(10_000), true),
        ("huge enum", json!({"enum": names}).to_string(), true),
        ("large enum", json!({"enum": fewer}).to_string(), false),
        ("exponential anyOf", json!({"type": "object", "allOf": options}).to_string(), true),
        ("exponential repetition", json!({"$ref": "#/$defs/l0", "$defs": levels}).to_string(), false),
        ("a million items", json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 999_999}).to_string(), false),
        ("pattern", json!({"type": "string", "pattern": "^((a{1,90}){1,90}){1,90}$"}).to_string(), false),
        ("$ref to itself", json!({"$ref": "#"}).to_string(), true),
        ("$ref cycle", json!({"$ref": "#/$defs/a", "$defs": {"a": to("b"), "b": to("a")}}).to_string(), true),
        ("endless object", json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}, "additionalProperties": false}).to_string(), false),
    ]
}

/// An answer must be valid as far as it was generated.
fn check(what: &str, schema: &str, answer: &str, is_whole: bool) {
    if !is_whole {
        return;
    }
    let value: Value = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{what}: {e}"));
    let schema = serde_json::from_str(schema).unwrap();
    let is_valid = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator.is_valid(&value),
        // It is too large for the validator as well.
        Err(_) if what == "pattern" => {
            let text = value.as_str().unwrap();
            !text.is_empty() && text.bytes().all(|byte| byte == b'a')
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(is_valid, "{what}: {answer}");
}

#[test]
fn exponential_schemas_do_not_affect_other_requests() {
    const QUESTION: &str = "What is the capital of Italy?";
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[sampling]\nmax_tokens = 60\n",
        ..Setup::default()
    });
    let bus = Bus::connect(&daemon);
    assert!(bus.generate(QUESTION).unwrap().contains("Rome"));
    let engine = daemon.engine_pid();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = daemon.chat(&chat(QUESTION).to_string());
                assert!(content(&answer).contains("Rome"), "{answer}");
                asked += 1;
            }
            asked
        });
        // Whatever fails in here, the other client must be told to stop.
        let bombs = scope.spawn(|| {
            for (what, schema, is_refused) in bombs() {
                explode(&daemon, &bus, what, &schema, is_refused);
            }
        });
        let bombs = bombs.join();
        over.store(true, Ordering::Relaxed);
        assert!(neighbour.join().unwrap() > 0);
        bombs.unwrap();
    });
    assert_eq!(daemon.engine_pid(), engine);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

fn explode(daemon: &Daemon, bus: &Bus, what: &str, schema: &str, is_refused: bool) {
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}}}"#
    );
    let (head, answer) = reply(send(daemon, &body));
    let choice = &answer["choices"][0];
    if let Some(text) = choice["message"]["content"].as_str() {
        assert!(!is_refused, "{what}: {answer}");
        check(what, schema, text, choice["finish_reason"] == "stop");
    } else {
        assert!(head.starts_with("http/1.1 400 "), "{what}: {head} {answer}");
        let (code, said) = (&answer["error"]["code"], &answer["error"]["message"]);
        // Text that no parser accepts is not treated as a schema.
        let is_no_json = said.as_str().unwrap().contains("recursion limit");
        assert!(code == "invalid_schema" || is_no_json, "{what}: {answer}");
    }
    match bus.generate_json("x", schema) {
        Ok(text) => {
            assert!(!is_refused, "{what}: {text}");
            check(what, schema, &text, true);
        }
        Err(said) if said.contains("Error.InvalidSchema") => {}
        Err(said) => assert!(
            !is_refused && said.contains("not complete after"),
            "{what}: {said}"
        ),
    }
}

/// The engine compiles what the daemon cannot check.
#[test]
fn a_constraint_that_does_not_compile_is_refused_by_its_field() {
    let daemon = Daemon::real();
    let with = |more: Value| {
        let mut request = json!({"messages": [{"role": "user", "content": "x"}]});
        let fields = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(fields);
        request
    };
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    for (path, request, field) in [
        (
            "/v1/chat/completions",
            with(json!({"response_format": schema(json!({"type": "nothing"}))})),
            "response_format",
        ),
        (
            "/v1/chat/completions",
            with(json!({"response_format": schema(json!({"$ref": "#/nowhere"}))})),
            "response_format",
        ),
        (
            "/v1/chat/completions",
            with(json!({"regex": "a(b"})),
            "regex",
        ),
        (
            "/v1/chat/completions",
            with(json!({"lark": "start: nothing"})),
            "lark",
        ),
        (
            "/completion",
            json!({"prompt": "x", "grammar": "root ::= nothing"}),
            "grammar",
        ),
        (
            "/v1/responses",
            json!({"input": "x", "text": {"format":
                {"type": "json_schema", "name": "n", "strict": true, "schema": {"type": "nothing"}}}}),
            "text.format",
        ),
    ] {
        let output = daemon.curl(path, &["-d", &request.to_string()]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &answer["error"];
        assert_eq!(error["param"], field, "{request}: {answer}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
    }
}
