//! HTTP through `curl`.

use std::fs;
use std::io::Write as _;

use crate::harness::{Daemon, Engine, Setup, ok, text, until};

#[test]
fn chat_plain_and_streamed() {
    let daemon = Daemon::real();
    let answer =
        daemon.chat(r#"{"messages":[{"role":"user","content":"What is the capital of Italy?"}]}"#);
    assert!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("Rome"),
        "{answer}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 2);

    let body = r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"What is the capital of Italy?"}]}"#;
    let lines = ok(&daemon.curl("/v1/chat/completions", &["-N", "-d", body]));
    let chunks: Vec<serde_json::Value> = lines
        .lines()
        .filter_map(|l| l.strip_prefix("data: ").filter(|l| *l != "[DONE]"))
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let streamed: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(streamed, answer["choices"][0]["message"]["content"]);
    let last = &chunks[chunks.len() - 2]["choices"][0];
    assert_eq!(
        (&last["finish_reason"], &last["delta"]),
        (&"stop".into(), &serde_json::json!({}))
    );
    // The second time, all of the prompt but its last token is in the cache.
    let mut usage = chunks[chunks.len() - 1]["usage"].clone();
    let cached = usage["prompt_tokens_details"]["cached_tokens"].take();
    assert_eq!(cached, usage["prompt_tokens"].as_u64().unwrap() - 1);
    usage["prompt_tokens_details"]["cached_tokens"] = 0.into();
    assert_eq!(usage, answer["usage"]);
    assert!(lines.trim_end().ends_with("data: [DONE]"));
}

#[test]
fn a_tool_call_comes_as_one() {
    let daemon = Daemon::real();
    let heldout =
        fs::read_to_string(crate::harness::root().join("packaging/demo-model/heldout.jsonl"))
            .unwrap();
    let line = heldout.lines().find(|l| l.contains("accept_call")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let body =
        serde_json::json!({"messages": line["messages"], "tools": line["tools"]}).to_string();
    let answer = daemon.chat(&body);
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], line["accept_call"]["name"], "{answer}");
    let arguments: serde_json::Value =
        serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, line["accept_call"]["arguments"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

/// The fake engine's answers are all equal; the demo model's vary with the seed.
#[test]
fn several_answers_to_one_request() {
    let daemon = Daemon::real();
    // Low enough that sums in another order do not change a choice: alone it is the same
    // text.
    let mut body = serde_json::json!({"n": 3, "seed": 5, "temperature": 0.6,
        "max_tokens": 8, "messages": [{"role": "user", "content": "Tell me a story."}]});
    let answer = daemon.chat(&body.to_string());
    let content = |n: usize| answer["choices"][n]["message"]["content"].as_str().unwrap();
    let alone = |seed: u32| {
        let mut body = body.clone();
        (body["n"], body["seed"]) = (1.into(), seed.into());
        daemon.chat(&body.to_string())
    };
    let mut tokens = 0;
    for (n, seed) in [(0, 5), (1, 6), (2, 7)] {
        assert_eq!(answer["choices"][n]["index"], n, "{answer}");
        let alone = alone(seed);
        assert_eq!(alone["choices"][0]["message"]["content"], content(n));
        assert_eq!(
            alone["usage"]["prompt_tokens"],
            answer["usage"]["prompt_tokens"]
        );
        tokens += alone["usage"]["completion_tokens"].as_u64().unwrap();
    }
    assert_ne!(content(0), content(1));
    assert_eq!(answer["usage"]["completion_tokens"], tokens);
    let whole = |n: usize| content(n).to_owned();
    let expected = [whole(0), whole(1), whole(2)];

    body["stream"] = true.into();
    body["stream_options"] = serde_json::json!({"include_usage": true});
    let lines = ok(&daemon.curl("/v1/chat/completions", &["-N", "-d", &body.to_string()]));
    let mut texts = [String::new(), String::new(), String::new()];
    let mut ends = [0; 3];
    let mut usage = serde_json::Value::Null;
    for line in lines.lines().filter_map(|l| l.strip_prefix("data: ")) {
        assert!(
            usage.is_null() || line == "[DONE]",
            "usage comes last: {lines}"
        );
        let Ok(mut chunk) = serde_json::from_str::<serde_json::Value>(line) else {
            assert_eq!(line, "[DONE]");
            continue;
        };
        usage = chunk["usage"].take();
        let choice = &chunk["choices"][0];
        if let Some(n) = choice["index"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
        {
            texts[n] += choice["delta"]["content"].as_str().unwrap_or_default();
            ends[n] += usize::from(choice["finish_reason"].is_string());
        }
    }
    assert_eq!((texts, ends), (expected, [1; 3]), "{lines}");
    assert_eq!(usage["completion_tokens"], tokens);

    let completion = serde_json::json!({"n": 2, "prompt": "Once", "max_tokens": 4}).to_string();
    let completion = ok(&daemon.curl("/v1/completions", &["-d", &completion]));
    let completion: serde_json::Value = serde_json::from_str(&completion).unwrap();
    assert!(completion["choices"][1]["text"].is_string(), "{completion}");
    assert_eq!(completion["choices"][1]["index"], 1);
}

#[test]
fn a_completion_streams_what_it_answers_at_once() {
    let daemon = Daemon::real();
    let mut body = serde_json::json!({
        "prompt": ["The capital of Italy is"], "temperature": 0, "max_tokens": 12,
        "logprobs": 2, "stream_options": {"include_usage": true},
    });
    let ask = |body: &serde_json::Value| {
        ok(&daemon.curl("/v1/completions", &["-N", "-d", &body.to_string()]))
    };
    let whole: serde_json::Value = serde_json::from_str(&ask(&body)).unwrap();
    body["stream"] = true.into();
    let lines = ask(&body);
    let chunks: Vec<serde_json::Value> = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    assert!(lines.trim_end().ends_with("data: [DONE]"), "{lines}");
    let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
    let text: String = choices.clone().filter_map(|c| c["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], text);
    let tokens: Vec<&serde_json::Value> = choices
        .filter_map(|c| c["logprobs"]["tokens"].as_array())
        .flatten()
        .collect();
    let expected = whole["choices"][0]["logprobs"]["tokens"]
        .as_array()
        .unwrap();
    assert_eq!(tokens, expected.iter().collect::<Vec<_>>());
    let (last, before) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]);
    let tokens = "completion_tokens";
    assert_eq!(last["usage"][tokens], whole["usage"][tokens]);
    let reason = &whole["choices"][0]["finish_reason"];
    assert_eq!(&before["choices"][0]["finish_reason"], reason);
}

#[test]
fn texts_become_tokens_and_texts_again() {
    let daemon = Daemon::real();
    let post = |path: &str, body: &str| ok(&daemon.curl(path, &["-d", body]));
    let made = post(
        "/tokenize",
        r#"{"content": "Grüße aus der Küche", "extra": 1}"#,
    );
    let text = post("/detokenize", &made);
    assert_eq!(text, r#"{"content":"Grüße aus der Küche"}"#);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let counted = ok(&daemon.call("CountTokens", &["s", "Grüße aus der Küche"]));
    let tokens = made["tokens"].as_array().unwrap().len();
    assert_eq!(counted.trim(), format!("u {tokens}"));
    for (path, body) in [("/tokenize", "{}"), ("/detokenize", r#"{"tokens": ["a"]}"#)] {
        let error = post(path, body);
        assert!(error.contains("the request is not valid"), "{error}");
    }
}

#[test]
fn several_answers_stand_and_fall_together() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=20"),
        config: "[queue]\nlength_max = 2\n[engine]\nslots = 1\n",
        ..Setup::default()
    });
    let request = |n: u32, content: &str| {
        serde_json::json!({"n": n, "messages": [{"role": "user", "content": content}]}).to_string()
    };
    let outcome = |line: &str| ok(&daemon.curl("/metrics", &[])).contains(line);
    let idle = || {
        let service = &daemon.health()["service"];
        service["queue_length"] == 0 && service["active_jobs"] == 0
    };
    // Loaded first: no request leaves the queue while the model is being loaded.
    daemon.chat(&request(1, "x"));
    // One runs, two wait, and the queue is full for the fourth.
    let refused = daemon.chat(&request(4, &"long ".repeat(400)));
    assert_eq!(refused["error"]["code"], "queue_full", "{refused}");
    until("all are cancelled", idle);
    assert!(outcome("outcome=\"finished\"} 1"));
    // A failure in the engine: the others would have continued for long.
    let failed = daemon.chat(&request(2, &format!("!fail {}", "long ".repeat(400))));
    assert!(failed["error"]["message"].is_string(), "{failed}");
    until("the other one is cancelled", idle);
    // A client that disconnects.
    std::thread::scope(|scope| {
        let gone = scope.spawn(|| {
            let body = request(3, &"long ".repeat(400));
            daemon.curl("/v1/chat/completions", &["--max-time", "1", "-d", &body])
        });
        assert!(!gone.join().unwrap().status.success());
    });
    until("all of its answers are cancelled", idle);
    assert!(outcome("outcome=\"finished\"} 1"));
}

/// The fake engine echoes the prompt.
#[test]
fn reasoning_and_calls_are_fields_of_their_own() {
    let daemon = Daemon::fake("");
    let content = "<think>\nHm.\n</think>\n\nYes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let request = |content: &str| {
        serde_json::json!({"messages": [{"role": "user", "content": content}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters":
                {"type": "object", "properties": {"x": {"type": "integer"}}}}}]})
    };
    let answer = daemon.chat(&request(content).to_string());
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Hm.", "{answer}");
    assert_eq!(message["content"], "Yes.");
    let call = &message["tool_calls"][0]["function"];
    assert_eq!(
        (&call["name"], &call["arguments"]),
        (&"f".into(), &"{\"x\":1}".into())
    );
    let mut body = request(content);
    body["stream"] = true.into();
    let streamed = ok(&daemon.curl("/v1/chat/completions", &["-N", "-d", &body.to_string()]));
    for part in [
        "\"reasoning_content\":\"H",
        "\"tool_calls\":[{\"id\":\"",
        "\"finish_reason\":\"tool_calls\"",
    ] {
        assert!(streamed.contains(part), "{part}: {streamed}");
    }
    // Without the start marker, nothing of it is reasoning.
    let answer = daemon.chat(&request("Hm.</think>Yes.").to_string());
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "Hm.</think>Yes.");
    assert!(message["reasoning_content"].is_null());
}

#[test]
fn lists_health_and_metrics() {
    let daemon = Daemon::fake("");
    let models = ok(&daemon.curl("/v1/models", &[]));
    assert!(models.contains("\"id\":\"fake\""), "{models}");
    assert_eq!(daemon.health()["status"], "ok");
    daemon.chat(r#"{"messages":[{"role":"user","content":"count me"}]}"#);
    let metrics = ok(&daemon.curl("/metrics", &[]));
    for part in [
        "hearthd_requests_total{origin=\"unix\",outcome=\"finished\"} 1",
        "hearthd_first_token_seconds_count 1",
        "# EOF",
    ] {
        assert!(metrics.contains(part), "{part}:\n{metrics}");
    }
}

#[test]
fn bad_requests_get_their_status() {
    let daemon = Daemon::fake("");
    let big = daemon.dir.path().join("big");
    let mut file = fs::File::create(&big).unwrap();
    let mib = vec![b' '; 1024 * 1024];
    (0..64).for_each(|_| file.write_all(&mib).unwrap());
    let big = format!("@{}", big.display());
    let chat = "/v1/chat/completions";
    for (path, args, status) in [
        (chat, vec!["--data-binary", big.as_str()], "413"),
        (
            chat,
            vec![
                "-H",
                "Transfer-Encoding: chunked",
                "--data-binary",
                big.as_str(),
            ],
            "413",
        ),
        (chat, vec!["-d", "{"], "400"),
        (chat, vec!["-d", "{}"], "400"),
        (
            chat,
            vec![
                "-d",
                r#"{"messages":[{"role":"user","content":"x"}],"model":"nope"}"#,
            ],
            "404",
        ),
        (
            chat,
            vec![
                "-d",
                r#"{"messages":[{"role":"user","content":"x"}],"n":9}"#,
            ],
            "400",
        ),
        (
            chat,
            vec![
                "-d",
                r#"{"stream":true,"messages":[{"role":"user","content":"x"}],"n":9}"#,
            ],
            "400",
        ),
        (chat, vec![], "405"),
        ("/nope", vec![], "404"),
    ] {
        let mut args = args;
        args.extend(["-w", "\n%{http_code}", "-H", "Expect:"]);
        let output = text(&daemon.curl(path, &args).stdout);
        let (body, code) = output.rsplit_once('\n').unwrap();
        assert_eq!(code, status, "{path} {args:?}: {body}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    assert_eq!(daemon.health()["status"], "ok");
}

#[test]
fn a_client_that_goes_away_cancels_only_its_own() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=20"),
        config: "[engine]\nslots = 1\n",
        ..Setup::default()
    });
    let gone = daemon.open_chat(&"long ".repeat(400));
    let other = std::thread::scope(|scope| {
        let other =
            scope.spawn(|| daemon.chat(r#"{"messages":[{"role":"user","content":"other"}]}"#));
        until("the other waits", || {
            daemon.health()["service"]["queue_length"] == 1
        });
        drop(gone);
        other.join().unwrap()
    });
    assert_eq!(other["choices"][0]["message"]["content"], "other");
    let metrics = ok(&daemon.curl("/metrics", &[]));
    assert!(metrics.contains("outcome=\"cancelled\"} 1"), "{metrics}");
}

#[test]
fn the_queue_is_bounded() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=20"),
        config: "[queue]\nlength_max = 1\n[engine]\nslots = 1\n",
        ..Setup::default()
    });
    let running = daemon.open_chat(&"long ".repeat(400));
    let body = r#"{"messages":[{"role":"user","content":"x"}]}"#;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.curl("/v1/chat/completions", &["-d", body]));
        until("one waits", || {
            daemon.health()["service"]["queue_length"] == 1
        });
        let refused = text(
            &daemon
                .curl("/v1/chat/completions", &["-i", "-d", body])
                .stdout,
        );
        assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
        assert!(refused.contains("retry-after: 5"), "{refused}");
        drop(running);
        assert!(waiting.join().unwrap().status.success());
    });
}

/// The fake engine takes 20 ms per byte of a prompt: longer than a heartbeat.
#[test]
fn a_long_prefill_shows_that_it_lives() {
    let daemon = Daemon::fake("prefill-us=20000");
    let body = serde_json::json!({"stream": true,
        "messages": [{"role": "user", "content": "word ".repeat(80)}]});
    let lines = ok(&daemon.curl("/v1/chat/completions", &["-N", "-d", &body.to_string()]));
    let before = lines.split("data: ").next().unwrap();
    assert!(before.contains(": working\n"), "{lines}");
    assert!(lines.trim_end().ends_with("data: [DONE]"), "{lines}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let daemon = Daemon::fake("");
    let parts = |kind: &str| {
        serde_json::json!([{"type": "text", "text": "What is it?"},
            {"type": kind, kind: {"url": "data:image/png;base64,AA=="}}])
    };
    for kind in ["image_url", "input_audio", "file"] {
        let body = serde_json::json!({"messages": [{"role": "user", "content": parts(kind)}]});
        let error = &daemon.chat(&body.to_string())["error"];
        assert_eq!(error["code"], "not_supported", "{error}");
        assert_eq!(error["param"], "messages[0].content");
        assert!(error["message"].as_str().unwrap().contains(kind), "{error}");
    }
}

/// The beginning of the prompt selects the cache entry; identifiers are not needed.
#[test]
fn hints_of_who_asks_change_nothing() {
    let daemon = Daemon::fake("");
    let ask = |content: &str, who: &str| {
        let body = serde_json::json!({"user": who, "prompt_cache_key": who,
            "safety_identifier": who, "messages": [{"role": "user", "content": content}]});
        let answer = daemon.chat(&body.to_string());
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let question = "What is the capital of Italy?";
    assert_eq!(ask(question, "kitchen"), 0);
    let other = ask(&format!("Say, {question}"), "kitchen");
    assert!(ask(question, "cellar") > other + 10, "{other}");
}

#[test]
fn props_without_loading_for_it() {
    let daemon = Daemon::real();
    let props =
        || -> serde_json::Value { serde_json::from_str(&ok(&daemon.curl("/props", &[]))).unwrap() };
    let before = props();
    assert_eq!(before["is_sleeping"], true, "{before}");
    assert_eq!(daemon.health()["service"]["state"], "unloaded");
    assert_eq!(before["model_path"], "hearth-demo-q8_0.gguf");
    let template = before["chat_template"].as_str().unwrap();
    assert!(template.contains("messages"), "{template}");
    daemon.chat(r#"{"max_tokens": 1, "messages":[{"role":"user","content":"x"}]}"#);
    let mut loaded = props();
    assert_eq!(loaded["is_sleeping"], false);
    assert_eq!(
        loaded["default_generation_settings"]["n_ctx"],
        daemon.health()["service"]["context_size"]
    );
    loaded["is_sleeping"] = true.into();
    assert_eq!(loaded, before, "it is loaded as was said");
}

#[test]
fn props_do_not_wait_for_the_engine() {
    let daemon = Daemon::fake("load=hang");
    let body = r#"{"messages":[{"role":"user","content":"x"}]}"#;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.curl("/v1/chat/completions", &["-m", "5", "-d", body]));
        until("it loads", || {
            daemon.health()["service"]["state"] == "loading"
        });
        let props: serde_json::Value =
            serde_json::from_str(&ok(&daemon.curl("/props", &[]))).unwrap();
        assert_eq!(props["is_sleeping"], true);
        // The file has no value: as configured.
        assert_eq!(props["default_generation_settings"]["n_ctx"], 4096);
        assert_eq!(props["total_slots"], 2);
        assert!(
            props["chat_template"]
                .as_str()
                .unwrap()
                .contains("im_start")
        );
        assert!(!waiting.join().unwrap().status.success());
    });
}
