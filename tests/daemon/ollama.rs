//! Ollama's API through `curl`, and with the requests of Home Assistant.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use hearth_gguf::synthetic::{Encoder, make_encoder};
use serde_json::{Value, json};

use crate::harness::{Daemon, Engine, PATIENCE, Setup, ok, root, text, until};

/// Recorded from Home Assistant 2026.11.0 with a demo home, one request per line.
const HOME_ASSISTANT: &str = include_str!("fixtures/home_assistant_ollama.jsonl");

/// Status and lines of an answer.
fn ask(daemon: &Daemon, path: &str, body: &Value) -> (u32, Vec<Value>) {
    send(daemon, path, &["-d", &body.to_string()])
}

pub fn send(daemon: &Daemon, path: &str, args: &[&str]) -> (u32, Vec<Value>) {
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

pub fn user(content: &str) -> Value {
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
fn chats_and_texts_plain_and_streamed() {
    let daemon = Daemon::real();
    let question = "What is the capital of Italy?";
    let model = "hearth-demo-q8_0:latest";
    let body = json!({"model": model, "messages": user(question), "options": {"temperature": 0}});
    let (code, lines) = ask(&daemon, "/api/chat", &body);
    assert_eq!(code, 200);
    let (last, parts) = lines.split_last().unwrap();
    assert!(parts.len() > 2 && parts.iter().all(|l| l["done"] == false));
    for line in &lines {
        assert_eq!(line["model"], model);
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

    // If no model is named, the answer names it.
    let mut body = json!({"prompt": question, "options": {"temperature": 0, "num_predict": 2}});
    let (_, lines) = ask(&daemon, "/api/generate", &body);
    let streamed: String = lines
        .iter()
        .filter_map(|l| l["response"].as_str())
        .collect();
    body["stream"] = false.into();
    let whole = one(&daemon, "/api/generate", &body);
    assert_eq!(
        (&whole["response"], &whole["model"]),
        (&json!(streamed), &json!(model))
    );
    assert_eq!(
        (&whole["done_reason"], &whole["eval_count"]),
        (&json!("length"), &json!(2))
    );
    // Raw text is not rendered with a template.
    let raw =
        json!({"prompt": question, "raw": true, "stream": false, "options": {"num_predict": 1}});
    let raw = one(&daemon, "/api/generate", &raw);
    assert!(raw["prompt_eval_count"].as_u64() < whole["prompt_eval_count"].as_u64());
}

#[test]
fn home_assistants_own_requests() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ncontext = 8192\n",
        ..Setup::default()
    });
    let (_, tags) = send(&daemon, "/api/tags", &[]);
    let listed = tags[0]["models"].as_array().unwrap().iter();
    let mut listed = listed.map(|model| model["model"].as_str().unwrap());
    let model = listed
        .find(|name| *name == "hearth-demo-q8_0:latest")
        .unwrap();
    let mut count = 0;
    for (n, line) in HOME_ASSISTANT.lines().enumerate() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| recorded[name].as_str().unwrap();
        assert_eq!((field("method"), field("path")), ("POST", "/api/chat"));
        let mut args = vec!["--data-binary".to_owned()];
        args.push(field("body").replace("tiny-local:latest", model));
        let body: Value = serde_json::from_str(&args[1]).unwrap();
        assert_eq!(body["model"], model);
        for header in recorded["headers"].as_array().unwrap() {
            let part = |n: usize| header[n].as_str().unwrap();
            args.extend(["-H".into(), format!("{}: {}", part(0), part(1))]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, lines) = send(&daemon, "/api/chat", &args);
        let last = lines.last().unwrap();
        let has_pictures = !body["messages"][1]["images"].is_null();
        if has_pictures {
            assert_eq!((code, lines.len()), (400, 1), "{n}: {last}");
            assert!(
                last["error"]
                    .as_str()
                    .unwrap()
                    .contains("`messages[1].images`")
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
        (&json!(model), &json!(8192))
    );
}

/// The fake engine echoes the prompt.
#[test]
fn thoughts_and_calls_in_their_fields() {
    let daemon = Daemon::fake("");
    let content = "<think>\nHm.\n</think>\n\nYes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1]}}\n</tool_call>";
    let mut body = json!({"model": "fake", "think": true, "messages": user(content),
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
            "properties": {"x": {"type": "array", "items": {"type": "integer"}}}}}}]});
    let (code, lines) = ask(&daemon, "/api/chat", &body);
    assert_eq!(code, 200);
    assert_eq!(told(&lines, "thinking"), "Hm.");
    assert!(told(&lines, "content").starts_with("Yes."));
    let calls: Vec<&Value> = lines
        .iter()
        .filter(|l| !l["message"]["tool_calls"].is_null())
        .collect();
    assert_eq!(calls.len(), 1, "a call comes whole, in one line");
    let function = &calls[0]["message"]["tool_calls"][0]["function"];
    assert_eq!(
        (&function["name"], &function["arguments"]),
        (&json!("f"), &json!({"x": [1]}))
    );
    assert_eq!(lines.last().unwrap()["done_reason"], "stop");
    body["stream"] = false.into();
    let whole = one(&daemon, "/api/chat", &body);
    assert_eq!(whole["message"]["thinking"], "Hm.");
    assert_eq!(&whole["message"]["tool_calls"][0]["function"], function);
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
fn a_form_is_kept() {
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
fn a_client_that_goes_away_cancels_its_request() {
    let daemon = Daemon::fake("token-ms=20");
    let body = json!({"messages": user(&"long ".repeat(400))}).to_string();
    let mut socket = UnixStream::connect(daemon.socket()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        socket,
        "POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut lines = BufReader::new(socket).lines();
    let line = lines.find(|l| l.as_ref().unwrap().contains("\"content\""));
    assert!(line.is_some());
    drop(lines);
    until("it is cancelled", || {
        let metrics = ok(&daemon.curl("/metrics", &[]));
        metrics.contains("outcome=\"cancelled\"} 1")
    });
}

#[test]
fn a_failure_in_mid_stream_is_a_line() {
    let daemon = Daemon::fake("token-ms=5");
    let body = json!({"messages": user("some words come first !fail and no more")});
    let (code, lines) = ask(&daemon, "/api/chat", &body);
    let (last, parts) = lines.split_last().unwrap();
    assert_eq!(code, 200);
    assert!(
        told(parts, "content").starts_with("some words"),
        "{parts:?}"
    );
    assert!(
        last["error"].is_string() && last["done"].is_null(),
        "{last}"
    );
}

#[test]
fn lists_come_at_once() {
    let daemon = Daemon::fake("load-ms=4000");
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| one(&daemon, "/api/generate", &json!({"model": "fake"})));
        until("it loads", || {
            daemon.health()["service"]["state"] == "loading"
        });
        let get = |path| {
            let (code, mut lines) = send(&daemon, path, &["--max-time", "2"]);
            assert_eq!(code, 200, "{path}");
            lines.remove(0)
        };
        assert_eq!(get("/api/tags")["models"][0]["name"], "fake:latest");
        assert_eq!(get("/api/ps"), json!({"models": []}));
        assert!(get("/api/version")["version"].is_string());
        assert_eq!(daemon.health()["service"]["state"], "loading");
        let loaded = loading.join().unwrap();
        assert_eq!(
            (&loaded["done_reason"], &loaded["model"]),
            (&json!("load"), &json!("fake"))
        );
        assert!(loaded["load_duration"].as_u64().unwrap() > 0);
    });
}

#[test]
fn vectors() {
    let daemon = Daemon::real();
    let both = one(
        &daemon,
        "/api/embed",
        &json!({"model": "default", "input": ["a cat", "a dog"]}),
    );
    let vectors = both["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), &both["model"]), (2, &json!("default")));
    assert!(both["prompt_eval_count"].as_u64().unwrap() > 2);
    let single = one(
        &daemon,
        "/api/embed",
        &json!({"input": "a dog", "keep_alive": 0}),
    );
    assert_eq!(single["model"], "hearth-demo-q8_0:latest");
    assert_eq!(
        single["embeddings"][0].as_array().map(Vec::len),
        vectors[1].as_array().map(Vec::len)
    );
    until("it is let go", || !is_loaded(&daemon));
    let older = one(&daemon, "/api/embeddings", &json!({"prompt": "a dog"}));
    assert_eq!(
        older["embedding"].as_array().map(Vec::len),
        vectors[0].as_array().map(Vec::len)
    );
    // Without a prompt the model is only loaded.
    assert_eq!(
        one(&daemon, "/api/embed", &json!({"input": []}))["embeddings"],
        json!([])
    );
    assert_eq!(
        one(&daemon, "/api/embeddings", &json!({"prompt": ""})),
        json!({"embedding": []})
    );
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

/// Each is rejected with this status and a reason that contains this text.
fn refused(daemon: &Daemon, cases: &[(&str, Value, u32, &str)]) {
    for (path, body, status, part) in cases {
        let (code, lines) = ask(daemon, path, body);
        assert_eq!(
            (code, lines.len()),
            (*status, 1),
            "{path} {body}: {lines:?}"
        );
        let error = lines[0]["error"].as_str();
        let error = error.unwrap_or_else(|| panic!("{lines:?}"));
        assert!(error.contains(part), "{path} {body}: {error}");
    }
}

#[test]
fn bad_chats_get_a_status_and_a_reason() {
    let daemon = Daemon::fake("");
    let with = |field: &str, value: Value| {
        let mut body = json!({"messages": user("x")});
        body[field] = value;
        body
    };
    let long = "x".repeat(10_000);
    let mut too_long = with("messages", user(&long));
    too_long["stream"] = false.into();
    let picture = json!([{"role": "user", "content": "x", "images": ["aGk="]}]);
    let nobodys = json!([{"content": "x"}]);
    let endless = json!({"type": "array", "maxItems": 1e9});
    let chat = "/api/chat";
    let cases = [
        (chat, json!([]), 400, "JSON object"),
        (chat, with("messages", json!("x")), 400, "`messages`"),
        (chat, with("messages", nobodys), 400, "`role`"),
        (chat, with("messages", picture), 400, "`messages[0].images`"),
        (chat, with("messages", user(&long)), 400, "context"),
        (chat, too_long, 400, "context"),
        (
            chat,
            with("model", json!("nope:latest")),
            404,
            "installed: fake",
        ),
        (chat, with("stream", json!("yes")), 400, "`stream`"),
        (chat, with("options", json!(3)), 400, "`options`"),
        (
            chat,
            with("options", json!({"temperature": "hot"})),
            400,
            "`options.temperature`",
        ),
        (
            chat,
            with("options", json!({"num_ctx": "big"})),
            400,
            "`options.num_ctx`",
        ),
        (chat, with("format", json!("xml")), 400, "`format`"),
        (chat, with("format", endless), 400, "schema"),
        (chat, with("keep_alive", json!("soon")), 400, "`keep_alive`"),
        (chat, with("think", json!("much")), 400, "`think`"),
        (chat, with("tools", json!([{}])), 400, "`tools`"),
    ];
    refused(&daemon, &cases);
    let (code, lines) = send(&daemon, chat, &["-d", "{"]);
    assert_eq!(code, 400);
    assert!(lines[0]["error"].as_str().unwrap().contains("JSON"));
    // Unknown fields and options are ignored.
    let mut body = with(
        "options",
        json!({"mirostat": 1, "new": {"x": 1}, "num_ctx": 1e9}),
    );
    body["new"] = 1.into();
    body["stream"] = false.into();
    assert_eq!(one(&daemon, chat, &body)["message"]["content"], "x");
}

#[test]
fn other_bad_requests_get_a_status_and_a_reason() {
    let daemon = Daemon::fake("");
    let generate = "/api/generate";
    let raw = json!({"prompt": "x", "raw": true, "system": "y"});
    let nope = json!({"model": "nope", "input": "x", "keep_alive": 0});
    let cases = [
        (generate, json!({"prompt": 3}), 400, "`prompt`"),
        (
            generate,
            json!({"prompt": "x", "suffix": "y"}),
            400,
            "`suffix`",
        ),
        (
            generate,
            json!({"prompt": "x", "template": "y"}),
            400,
            "`template`",
        ),
        (generate, raw, 400, "`raw`"),
        (generate, nope.clone(), 404, "nope"),
        ("/api/embed", json!({"input": 3}), 400, "`input`"),
        (
            "/api/embed",
            json!({"input": "x", "dimensions": 3}),
            400,
            "`dimensions`",
        ),
        ("/api/embed", nope.clone(), 404, "nope"),
        ("/api/show", nope.clone(), 404, "nope"),
        ("/api/show", json!({}), 400, "`model`"),
        ("/api/pull", nope, 404, "hearthctl pull ollama:nope"),
        ("/api/copy", json!({"source": "fake"}), 400, "`destination`"),
        ("/api/create", json!({}), 404, "/api/create"),
        ("/api/tags", json!({}), 405, "POST"),
    ];
    refused(&daemon, &cases);
    let head = text(&daemon.curl("/", &["-I"]).stdout);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// As Ollama does for a model without a template.
#[test]
fn a_base_model_goes_on_with_what_generate_says() {
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
