//! HTTP through `curl`.

use std::fs;

use crate::harness::{Daemon, ok};

#[test]
fn chat_answers_are_equal_plain_and_streamed() {
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
fn a_tool_call_is_a_field_of_the_message() {
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
fn several_choices_equal_separate_answers() {
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
    let (texts, ends, usage) = streamed_choices(&lines);
    assert_eq!((texts, ends), (expected, [1; 3]), "{lines}");
    assert_eq!(usage["completion_tokens"], tokens);

    let completion = serde_json::json!({"n": 2, "prompt": "Once", "max_tokens": 4}).to_string();
    let completion = ok(&daemon.curl("/v1/completions", &["-d", &completion]));
    let completion: serde_json::Value = serde_json::from_str(&completion).unwrap();
    assert!(completion["choices"][1]["text"].is_string(), "{completion}");
    assert_eq!(completion["choices"][1]["index"], 1);
}

/// The texts of three streamed choices, how many finish reasons each had, and the usage.
fn streamed_choices(lines: &str) -> ([String; 3], [usize; 3], serde_json::Value) {
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
    (texts, ends, usage)
}

#[test]
fn completions_are_equal_plain_and_streamed() {
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
fn props_are_answered_without_loading_the_model() {
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
    // What only an engine knows is missing before.
    for name in ["chat_template_caps", "bos_token", "eos_token"] {
        loaded[name] = before[name].clone();
    }
    let params = before["default_generation_settings"]["params"].clone();
    loaded["default_generation_settings"]["params"] = params;
    assert_eq!(loaded, before, "it is loaded as was said");
}
