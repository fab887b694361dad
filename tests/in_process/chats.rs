//! OpenAI's API over HTTP.

use std::time::Duration;

use hearth_proto::{AnswerPart, ToolCall};
use hearth_testing::{Answers, LoadFault, Script, Step};
use hearthd::daemon::State;
use hyper::Method;
use serde_json::{Value, json};

use crate::bus::Options;
use crate::harness::{World, caller, until, until_async};
use crate::http::{CHAT, body, content};

/// Reasoning, text and a call.
pub fn parts() -> Script {
    let call = ToolCall::new("f", json!({"x": 1}));
    let steps = ["H", "m."].map(|text| Step::Token(vec![AnswerPart::Reasoning(text.into())]));
    let steps = steps.into_iter().chain([
        Step::text("Yes."),
        Step::Token(Vec::new()),
        Step::Token(vec![AnswerPart::ToolCall(call)]),
    ]);
    Script::answering(Answers::fixed(steps.collect()))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_whole_and_streamed() {
    let world = World::new(Script::default()).await;
    let mut request = body("Hello there");
    let whole = world.post(CHAT, &request).await;
    assert_eq!(whole.status, 200);
    let whole = whole.json();
    assert_eq!(content(&whole), "Hello there");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(whole["usage"]["completion_tokens"], 11);
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let streamed = world.post(CHAT, &request).await;
    assert!(streamed.body.trim_end().ends_with("data: [DONE]"));
    let chunks = streamed.events();
    let texts = chunks.iter().map(|c| &c["choices"][0]["delta"]["content"]);
    let text: String = texts.filter_map(Value::as_str).collect();
    assert_eq!(text, "Hello there");
    let (usage, end) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]);
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["usage"]["completion_tokens"], 11);
    // The second time, all of the prompt but its last token is in the cache.
    let details = &usage["usage"]["prompt_tokens_details"];
    assert_eq!(details["cached_tokens"], 10);
}

#[tokio::test(start_paused = true)]
async fn reasoning_and_calls_are_separate_fields() {
    let world = World::new(parts()).await;
    let mut request = body("x");
    request["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters":
        {"type": "object", "properties": {"x": {"type": "integer"}}}}}]);
    let answer = world.chat(&request).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Hm.", "{answer}");
    assert_eq!(message["content"], "Yes.");
    let call = &message["tool_calls"][0]["function"];
    assert_eq!(
        (&call["name"], &call["arguments"]),
        (&json!("f"), &json!("{\"x\":1}"))
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    request["stream"] = true.into();
    let chunks = world.post(CHAT, &request).await.events();
    let field = |name: &str| {
        let deltas = chunks
            .iter()
            .map(|c| c["choices"][0]["delta"][name].clone());
        deltas.filter(|value| !value.is_null()).collect::<Vec<_>>()
    };
    assert_eq!(field("reasoning_content"), ["H", "m."]);
    assert_eq!(field("tool_calls").len(), 1, "a call comes whole");
    let end = chunks
        .iter()
        .rev()
        .find_map(|c| c["choices"][0]["finish_reason"].as_str());
    assert_eq!(end, Some("tool_calls"));
}

#[tokio::test(start_paused = true)]
async fn the_choices_of_a_request_are_accepted_or_refused_together() {
    let config = "[queue]\nlength_max = 2\n[engine]\nslots = 1\n";
    let world = World::with(config, Script::token_ms(20)).await;
    let request = |n: u32, content: &str| {
        let mut request = body(content);
        request["n"] = n.into();
        request
    };
    let both = world.chat(&request(2, "both")).await;
    for n in 0..2 {
        assert_eq!(both["choices"][n]["index"], n);
        assert_eq!(both["choices"][n]["message"]["content"], "both");
    }
    assert_eq!(both["usage"]["completion_tokens"], 8);
    let seeds: Vec<_> = world.requests().iter().map(|r| r.sampling.seed).collect();
    assert_ne!(seeds[0], seeds[1]);
    // One runs, two wait, and the queue is full for the fourth.
    let long = "long ".repeat(400);
    let refused = world.post(CHAT, &request(4, &long)).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "queue_full")
    );
    assert_eq!(refused.header("retry-after"), "5");
    world.until_running(0).await;
    world.until_queued(0).await;
    // A failure in the engine: the others would have continued for long.
    let failed = world
        .post(CHAT, &request(2, &format!("!fail {long}")))
        .await;
    assert_eq!(failed.status, 500);
    world.until_running(0).await;
    // A client that disconnects.
    let mut streaming = request(3, &long);
    streaming["stream"] = true.into();
    let mut gone = world.open(CHAT, &streaming).await;
    gone.until("\"content\"").await;
    drop(gone);
    world.until_running(0).await;
    world.until_queued(0).await;
    let finished = "hearthd_requests_total{origin=\"unix\",outcome=\"finished\"}";
    assert!((world.metric(finished).await - 2.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn models_health_and_metrics_are_served() {
    let world = World::new(Script::default()).await;
    let models = world.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "fake");
    assert_eq!(world.get("/health").await.json()["status"], "ok");
    world.chat(&body("count me")).await;
    let metrics = world.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    for part in [
        "hearthd_requests_total{origin=\"unix\",outcome=\"finished\"} 1",
        "hearthd_first_token_seconds_count 1",
        "# EOF",
    ] {
        assert!(metrics.body.contains(part), "{part}:\n{}", metrics.body);
    }
}

#[tokio::test(start_paused = true)]
async fn bad_requests_get_their_status() {
    let world = World::new(Script::default()).await;
    let mut nope = body("x");
    nope["model"] = "nope".into();
    let mut many = body("x");
    many["n"] = 9.into();
    let mut streamed = many.clone();
    streamed["stream"] = true.into();
    let big = " ".repeat(9 << 20);
    for (method, path, text, status) in [
        (Method::POST, CHAT, big.as_str(), 413),
        (Method::POST, CHAT, "{", 400),
        (Method::POST, CHAT, "{}", 400),
        (Method::POST, CHAT, &nope.to_string(), 404),
        (Method::POST, CHAT, &many.to_string(), 400),
        (Method::POST, CHAT, &streamed.to_string(), 400),
        (Method::GET, CHAT, "", 405),
        (Method::GET, "/nope", "", 404),
    ] {
        let reply = world.http(method, path, &[], text.to_owned()).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        assert!(reply.json()["error"]["message"].is_string());
    }
    assert_eq!(world.engine.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_client_cancels_only_its_own_request() {
    let world = World::with("[engine]\nslots = 1\n", Script::token_ms(20)).await;
    let mut long = body(&"long ".repeat(400));
    long["stream"] = true.into();
    let mut gone = world.open(CHAT, &long).await;
    gone.until("\"content\"").await;
    let other_body = body("other");
    let leave = async {
        world.until_queued(1).await;
        drop(gone);
    };
    let (other, ()) = tokio::join!(world.chat(&other_body), leave);
    assert_eq!(content(&other), "other");
    let cancelled = "hearthd_requests_total{origin=\"unix\",outcome=\"cancelled\"}";
    assert!((world.metric(cancelled).await - 1.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_long_prefill_sends_comments() {
    let world = World::new(Script {
        prefill_time: Duration::from_millis(100),
        ..Script::default()
    })
    .await;
    let mut request = body(&"word ".repeat(80));
    request["stream"] = true.into();
    let text = world.open(CHAT, &request).await.end().await;
    let before = text.split("data: ").next().unwrap();
    assert!(before.contains(": working\n"), "{text}");
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_supported_is_refused_by_name() {
    let world = World::new(Script::default()).await;
    for kind in ["video_url", "file"] {
        let parts = json!([{"type": "text", "text": "What is it?"},
            {"type": kind, kind: {"url": "data:image/png;base64,AA=="}}]);
        let request = json!({"messages": [{"role": "user", "content": parts}]});
        let refused = world.post(CHAT, &request).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "not_supported")
        );
        let field = refused.json()["error"]["param"].take();
        assert_eq!(field, "messages[0].content[1]");
    }
}

/// The beginning of the prompt selects the cache entry; identifiers are not needed.
#[tokio::test(start_paused = true)]
async fn user_identifiers_do_not_affect_the_prompt_cache() {
    let world = World::new(Script::default()).await;
    let ask = async |content: &str, who: &str| {
        let mut request = body(content);
        for hint in ["user", "prompt_cache_key", "safety_identifier"] {
            request[hint] = who.into();
        }
        let answer = world.chat(&request).await;
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let question = "What is the capital of Italy?";
    assert_eq!(ask(question, "kitchen").await, 0);
    let other = ask(&format!("Say, {question}"), "kitchen").await;
    assert!(ask(question, "cellar").await > other + 10, "{other}");
}

#[tokio::test(start_paused = true)]
async fn props_do_not_wait_for_the_engine() {
    let world = World::new(Script::fault(LoadFault::Hangs)).await;
    let waiting = world.submit("x").await.unwrap();
    world.until_state(State::Loading).await;
    let props = world.get("/props").await.json();
    assert_eq!(props["is_sleeping"], true);
    // The file has no value: as configured.
    assert_eq!(props["default_generation_settings"]["n_ctx"], 4096);
    assert_eq!(props["total_slots"], 2);
    let template = props["chat_template"].as_str().unwrap();
    assert!(template.contains("im_start"));
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn props_are_those_of_the_loaded_model() {
    let world = World::new(Script {
        slots: Some(3),
        context: Some(512),
        ..Script::default()
    })
    .await;
    assert_eq!(world.get("/props").await.json()["is_sleeping"], true);
    assert_eq!(world.engine.started(), 0, "nothing is loaded for it");
    world.say("x").await.unwrap();
    let props = world.get("/props").await.json();
    assert_eq!(props["is_sleeping"], false);
    assert_eq!(props["default_generation_settings"]["n_ctx"], 512);
    assert_eq!(props["total_slots"], 3);
}

#[tokio::test(start_paused = true)]
async fn tokenize_and_detokenize_are_inverse() {
    let world = World::new(Script::default()).await;
    let text = "Grüße aus der Küche";
    let request = json!({"content": text, "extra": 1});
    let made = world.post("/tokenize", &request).await.json();
    let tokens = made["tokens"].as_array().unwrap().len();
    assert_eq!(
        world.post("/detokenize", &made).await.json(),
        json!({"content": text})
    );
    let counted: u32 = world
        .bus()
        .await
        .manager("CountTokens", &(text, Options::new()))
        .await
        .unwrap();
    assert_eq!(counted as usize, tokens);
    for (path, request) in [
        ("/tokenize", json!({})),
        ("/detokenize", json!({"tokens": ["a"]})),
    ] {
        assert_eq!(world.post(path, &request).await.status, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_applies_to_later_requests() {
    let world = World::new(Script::default()).await;
    world.say("x").await.unwrap();
    world.configure("[queue]\nprompt_max_bytes = 3\n");
    let refused = world.post(CHAT, &body("four")).await;
    assert_eq!(refused.code(), "context_length_exceeded");
    assert_eq!(world.engine.started(), 1);
    world.daemon.pool.unload(&caller(), None).await.unwrap();
    until("it is unloaded", || world.engine.running() == 0).await;
    let state = async || world.health().await["state"] == "unloaded";
    until_async("it says so", state).await;
}
