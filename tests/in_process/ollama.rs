//! Ollama's API over HTTP.

use std::time::Duration;

use hearth_testing::{LoadFault, Script};
use hearthd::daemon::State;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::chats::parts;
use crate::harness::{World, until};
use crate::http::body;

const CHAT: &str = "/api/chat";

fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

/// Joins this field of the message over all lines.
fn told(lines: &[Value], field: &str) -> String {
    let texts = lines.iter().filter_map(|l| l["message"][field].as_str());
    texts.collect()
}

fn is_loaded(world: &World) -> bool {
    world.daemon.status().engine_pid.is_some()
}

/// The only object of a successful response.
async fn one(world: &World, path: &str, request: &Value) -> Value {
    let reply = world.post(path, request).await;
    assert_eq!((reply.status, reply.lines().len()), (200, 1), "{reply:?}");
    reply.json()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_whole_and_streamed() {
    let world = World::new(Script::token_ms(1)).await;
    let mut request = json!({"model": "fake:latest", "messages": user("Hello")});
    let streamed = world.post(CHAT, &request).await;
    assert_eq!(streamed.header("content-type"), "application/x-ndjson");
    let lines = streamed.lines();
    let (last, parts) = lines.split_last().unwrap();
    assert!(parts.len() > 2 && parts.iter().all(|line| line["done"] == false));
    for line in &lines {
        assert_eq!(line["model"], "fake:latest");
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(told(&lines, "content"), "Hello");
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(5), &json!(5))
    );
    request["stream"] = false.into();
    request["options"] = json!({"num_predict": 2});
    let whole = one(&world, CHAT, &request).await;
    assert_eq!(whole["message"]["content"], "He");
    assert_eq!(whole["done_reason"], "length");
}

#[tokio::test(start_paused = true)]
async fn reasoning_and_calls_are_separate_fields() {
    let world = World::new(parts()).await;
    let mut request = json!({"model": "fake", "think": true, "messages": user("x"),
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
            "properties": {"x": {"type": "integer"}}}}}]});
    let lines = world.post(CHAT, &request).await.lines();
    assert_eq!(told(&lines, "thinking"), "Hm.");
    assert_eq!(told(&lines, "content"), "Yes.");
    let calls = lines.iter().map(|line| &line["message"]["tool_calls"]);
    let calls: Vec<&Value> = calls.filter(|calls| !calls.is_null()).collect();
    assert_eq!(calls.len(), 1, "a call comes whole, in one line");
    let function = &calls[0][0]["function"];
    assert_eq!(
        (&function["name"], &function["arguments"]),
        (&json!("f"), &json!({"x": 1}))
    );
    assert_eq!(lines.last().unwrap()["done_reason"], "stop");
    request["stream"] = false.into();
    let whole = one(&world, CHAT, &request).await;
    assert_eq!(whole["message"]["thinking"], "Hm.");
    assert_eq!(&whole["message"]["tool_calls"][0]["function"], function);
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_client_cancels_its_request() {
    let world = World::new(Script::token_ms(20)).await;
    let request = json!({"messages": user(&"long ".repeat(400))});
    let mut gone = world.open(CHAT, &request).await;
    gone.until("\"content\"").await;
    drop(gone);
    world.until_running(0).await;
    let cancelled = "hearthd_requests_total{origin=\"unix\",outcome=\"cancelled\"}";
    assert!((world.metric(cancelled).await - 1.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_failure_during_a_stream_is_a_line() {
    let world = World::new(Script::token_ms(5)).await;
    let request = json!({"messages": user("some words come first !fail and no more")});
    let reply = world.post(CHAT, &request).await;
    let lines = reply.lines();
    let (last, parts) = lines.split_last().unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(told(parts, "content"), "some words come first ");
    assert!(
        last["error"].is_string() && last["done"].is_null(),
        "{last}"
    );
}

#[tokio::test(start_paused = true)]
async fn lists_are_answered_while_a_model_loads() {
    let world = World::new(Script::load_ms(4000)).await;
    let request = json!({"model": "fake"});
    let lists = async {
        world.until_state(State::Loading).await;
        let get = async |path: &str| world.get(path).await.json();
        assert_eq!(get("/api/tags").await["models"][0]["name"], "fake:latest");
        assert_eq!(get("/api/ps").await, json!({"models": []}));
        assert!(get("/api/version").await["version"].is_string());
        assert_eq!(world.daemon.status().state, State::Loading);
    };
    let (loaded, ()) = tokio::join!(one(&world, "/api/generate", &request), lists);
    assert_eq!(
        (&loaded["done_reason"], &loaded["model"]),
        (&json!("load"), &json!("fake"))
    );
    assert!(loaded["load_duration"].as_u64().unwrap() > 0);
}

/// Each is rejected with this status and a reason that contains this text.
async fn refused(world: &World, cases: &[(&str, Value, u16, &str)]) {
    for (path, request, status, part) in cases {
        let reply = world.post(path, request).await;
        assert_eq!(reply.status, *status, "{path} {request}: {reply:?}");
        let error = reply.json()["error"].take();
        let error = error.as_str().unwrap_or_else(|| panic!("{reply:?}"));
        assert!(error.contains(part), "{path} {request}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_chats_get_a_status_and_a_reason() {
    let world = World::new(Script::default()).await;
    let with = |field: &str, value: Value| {
        let mut request = json!({"messages": user("x")});
        request[field] = value;
        request
    };
    let long = "x".repeat(10_000);
    let mut too_long = with("messages", user(&long));
    too_long["stream"] = false.into();
    let endless = json!({"type": "array", "maxItems": 1e9});
    let picture = json!([{"role": "user", "content": "x", "images": ["aGk="]}]);
    let cases = [
        (CHAT, json!([]), 400, "JSON object"),
        (CHAT, with("messages", json!("x")), 400, "`messages`"),
        (
            CHAT,
            with("messages", json!([{"content": "x"}])),
            400,
            "`role`",
        ),
        (CHAT, with("messages", picture), 400, "images[0]`"),
        (CHAT, with("messages", user(&long)), 400, "context"),
        (CHAT, with("model", json!("nope:latest")), 404, "fake"),
        (CHAT, with("stream", json!("yes")), 400, "`stream`"),
        (CHAT, with("options", json!(3)), 400, "`options`"),
        (
            CHAT,
            with("options", json!({"temperature": "hot"})),
            400,
            "temperature`",
        ),
        (
            CHAT,
            with("options", json!({"num_ctx": "big"})),
            400,
            "num_ctx`",
        ),
        (CHAT, with("format", json!("xml")), 400, "`format`"),
        (CHAT, with("keep_alive", json!("soon")), 400, "`keep_alive`"),
        (CHAT, with("think", json!("much")), 400, "`think`"),
        (CHAT, with("tools", json!([{}])), 400, "`tools`"),
        (CHAT, with("format", endless), 400, "schema"),
        (CHAT, too_long, 400, "context"),
    ];
    refused(&world, &cases).await;
    let reply = world.http(Method::POST, CHAT, &[], "{").await;
    assert_eq!(reply.status, 400);
    // Unknown fields and options are ignored.
    let options = json!({"mirostat": 1, "new": {"x": 1}, "num_ctx": 1e9});
    let mut request = with("options", options);
    request["new"] = 1.into();
    request["stream"] = false.into();
    assert_eq!(one(&world, CHAT, &request).await["message"]["content"], "x");
}

#[tokio::test(start_paused = true)]
async fn other_bad_requests_get_a_status_and_a_reason() {
    let world = World::new(Script::default()).await;
    let generate = "/api/generate";
    let raw = json!({"prompt": "x", "raw": true, "system": "y"});
    let nope = json!({"model": "nope", "input": "x", "keep_alive": 0});
    let cases = [
        (generate, json!({"prompt": 3}), 400, "`prompt`"),
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
            json!({"input": "x", "dimensions": -3}),
            400,
            "`dimensions`",
        ),
        ("/api/embed", nope.clone(), 404, "nope"),
        ("/api/show", nope.clone(), 404, "nope"),
        ("/api/show", json!({}), 400, "`model`"),
        ("/api/pull", nope, 404, "nope"),
        ("/api/copy", json!({"source": "fake"}), 400, "`destination`"),
        ("/api/create", json!({}), 400, "`model`"),
        ("/api/clone", json!({}), 404, "/api/clone"),
        ("/api/tags", json!({}), 405, "POST"),
    ];
    refused(&world, &cases).await;
    let head = world.http(Method::HEAD, "/", &[], String::new()).await;
    assert_eq!(head.status, 200);
}

#[tokio::test(start_paused = true)]
async fn embed_and_the_older_embeddings_endpoint_work() {
    let world = World::new(Script::default()).await;
    let both = json!({"model": "default", "input": ["a cat", "a dog"]});
    let both = one(&world, "/api/embed", &both).await;
    let vectors = both["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), &both["model"]), (2, &json!("default")));
    assert_eq!(both["prompt_eval_count"], 10);
    let single = json!({"input": "a dog", "keep_alive": 0});
    let single = one(&world, "/api/embed", &single).await;
    assert_eq!(
        (&single["model"], &single["embeddings"][0]),
        (&json!("fake:latest"), &vectors[1])
    );
    until("it is unloaded", || !is_loaded(&world)).await;
    let older = one(&world, "/api/embeddings", &json!({"prompt": "a dog"})).await;
    assert_eq!(older["embedding"].as_array().map(Vec::len), Some(26));
    // Without a prompt the model is only loaded.
    let none = one(&world, "/api/embed", &json!({"input": []})).await;
    assert_eq!(none["embeddings"], json!([]));
    let none = one(&world, "/api/embeddings", &json!({"prompt": ""})).await;
    assert_eq!(none, json!({"embedding": []}));
}

/// A chat of a client with this name; how it ended.
async fn say_as(world: &World, agent: &str, request: Value) -> Value {
    let headers = [("User-Agent", agent)];
    let reply = world.http(Method::POST, CHAT, &headers, request.to_string());
    let reply = reply.await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.lines().last().unwrap()["done_reason"].clone()
}

#[tokio::test(start_paused = true)]
async fn the_longest_keep_alive_of_all_clients_counts() {
    let world = World::new(Script::token_ms(2)).await;
    let say = async |agent: &str, request: Value| say_as(&world, agent, request).await;
    let ask = |keep_alive: Value| json!({"keep_alive": keep_alive, "messages": user("x")});
    // Loads the model; one client wants to keep it forever, the other not at all.
    let forever = json!({"model": "fake:latest", "keep_alive": -1});
    assert_eq!(say("one", forever).await, "load");
    assert!(is_loaded(&world));
    let running = async || world.get("/api/ps").await.json()["models"].clone();
    let until_then = running().await[0]["expires_at"].clone();
    assert!(until_then.as_str().unwrap() > "2100");
    assert_eq!(say("two", ask(json!("5m"))).await, "stop");
    assert_eq!(say("two", ask(json!(0))).await, "stop");
    assert_eq!(say("two", json!({"keep_alive": 0})).await, "unload");
    sleep(Duration::from_mins(1)).await;
    assert!(is_loaded(&world), "the other one's wish holds");
    assert_eq!(say("one", ask(json!(0))).await, "stop");
    until("nobody wants it any more", || !is_loaded(&world)).await;
    assert_eq!(running().await, json!([]));

    // The model stays while a request is being answered.
    let long = json!({"messages": user(&"word ".repeat(200)), "stream": false});
    let meanwhile = async {
        world.until_running(1).await;
        assert_eq!(say("two", json!({"keep_alive": 0})).await, "unload");
    };
    let (answer, ()) = tokio::join!(one(&world, CHAT, &long), meanwhile);
    assert_eq!(answer["message"]["content"], "word ".repeat(200));
    assert!(is_loaded(&world));
    // A keep-alive shorter than the configured one applies if no other client has used
    // the model.
    assert_eq!(say("two", json!({"keep_alive": 0})).await, "unload");
    until("it is unloaded", || !is_loaded(&world)).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_keep_alive_expires() {
    let world = World::new(Script::default()).await;
    let request = json!({"keep_alive": "1s", "messages": user("x"), "stream": false});
    one(&world, CHAT, &request).await;
    assert!(is_loaded(&world));
    // The configured keep-alive is fifteen minutes.
    sleep(Duration::from_secs(20)).await;
    assert!(!is_loaded(&world));
    // The use by a client without a keep-alive counts with the configured one.
    world.chat(&body("x")).await;
    one(&world, CHAT, &request).await;
    sleep(Duration::from_secs(800)).await;
    assert!(is_loaded(&world));
    sleep(Duration::from_secs(200)).await;
    assert!(!is_loaded(&world));
}

#[tokio::test(start_paused = true)]
async fn a_client_may_shorten_its_own_keep_alive() {
    let world = World::new(Script::default()).await;
    assert_eq!(
        say_as(&world, "curl", json!({"keep_alive": "1h"})).await,
        "load"
    );
    assert_eq!(
        say_as(&world, "curl", json!({"keep_alive": "0s"})).await,
        "unload"
    );
    until("it is unloaded", || !is_loaded(&world)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_to_an_ending_engine_wait_for_the_next() {
    let world = World::new(Script {
        end_time: Duration::from_secs(1),
        ..Script::default()
    })
    .await;
    let text = json!({"input": "a cat"});
    for _ in 0..10 {
        world.say("x").await.unwrap();
        // The response arrives before the engine has ended.
        let gone = one(&world, "/api/generate", &json!({"keep_alive": 0})).await;
        assert_eq!(gone["done_reason"], "unload");
        let (answer, vectors) = tokio::join!(world.say("Hello?"), one(&world, "/api/embed", &text));
        assert_eq!(answer.unwrap(), "Hello?");
        assert!(vectors["embeddings"][0].is_array(), "{vectors}");
    }
    assert_eq!(world.daemon.status().engine_crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_loaded_is_an_error() {
    let world = World::new(Script::fault(LoadFault::Crashes)).await;
    let reply = world.post("/api/generate", &json!({"model": "fake"})).await;
    assert_eq!(reply.status, 422, "{reply:?}");
}
