//! The requests of Open `WebUI`, as its `routers/ollama.py`, `routers/openai.py` and
//! `utils/payload.py` make them.

use hearth_testing::Script;
use hyper::Method;
use serde_json::{Value, json};

use crate::chats::parts;
use crate::harness::World;
use crate::http::Reply;

/// A picture of 2 by 1 points.
const PICTURE: &str = "R0lGODlhAgABAIAAAA==";

/// Headers of all its requests, where forwarding of users is on.
const HEADERS: [(&str, &str); 7] = [
    ("User-Agent", "Python/3.11 aiohttp/3.14.5"),
    ("Content-Type", "application/json"),
    ("Authorization", "Bearer key"),
    ("X-OpenWebUI-User-Name", "Ada%20L"),
    ("X-OpenWebUI-User-Id", "4e2f"),
    ("X-OpenWebUI-User-Email", "ada@example.org"),
    ("X-OpenWebUI-User-Role", "admin"),
];

async fn get(world: &World, path: &str) -> Value {
    let reply = world.http(Method::GET, path, &HEADERS, String::new()).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

async fn post(world: &World, path: &str, body: Value) -> Reply {
    let reply = world.http(Method::POST, path, &HEADERS, body.to_string());
    let reply = reply.await;
    assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
    reply
}

#[tokio::test(start_paused = true)]
async fn it_verifies_the_connection_and_lists_models() {
    let world = World::new(Script::default()).await;
    assert!(get(&world, "/api/version").await["version"].is_string());
    let tags = get(&world, "/api/tags").await;
    let model = &tags["models"][0];
    assert_eq!(
        (&model["model"], &model["name"]),
        (&json!("fake:latest"), &json!("fake:latest"))
    );
    // It shows these, and reads the time with Python's `datetime.fromisoformat`.
    for field in ["size", "digest", "details", "modified_at"] {
        assert!(!model[field].is_null(), "{field}: {model}");
    }
    world.say("x").await.unwrap();
    let loaded = get(&world, "/api/ps").await;
    let expires = loaded["models"][0]["expires_at"].as_str().unwrap();
    assert!(expires.ends_with('Z') && expires.contains('T'), "{expires}");
    let models = get(&world, "/v1/models").await;
    assert_eq!(models["data"][0]["id"], "fake");
}

#[tokio::test(start_paused = true)]
async fn it_shows_a_model() {
    let world = World::new(Script::default()).await;
    let body = json!({"name": "fake:latest", "model": "fake:latest"});
    let shown = post(&world, "/api/show", body).await.json();
    assert!(shown["capabilities"].is_array() && shown["model_info"].is_object());
}

#[tokio::test(start_paused = true)]
async fn it_chats_over_ollamas_api() {
    let world = World::new(parts()).await;
    // The settings of a model are in `options` in newer versions, beside it in older ones.
    let body = json!({
        "model": "fake:latest", "stream": true, "keep_alive": "5m", "temperature": 0.7,
        "num_ctx": 8192, "chat_id": "c1", "session_id": "s1", "id": "m1",
        "background_tasks": {"title_generation": true}, "features": {"web_search": false},
        "options": {"temperature": 0.7, "num_ctx": 8192, "num_predict": 128, "tfs_z": 1,
            "use_mlock": false, "repeat_penalty": 1.1, "new_topic_penalty": 0.0, "stop": ["<end>"]},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [{"index": 0, "id": "c1",
                "function": {"name": "f", "arguments": {"x": 1}}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}],
    });
    let reply = post(&world, "/api/chat", body).await;
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    let lines = reply.lines();
    let (last, rest) = lines.split_last().unwrap();
    assert!(last["done"] == true && last["eval_count"].is_u64() && last["total_duration"].is_u64());
    let calls = rest.iter().map(|line| &line["message"]["tool_calls"]);
    assert_eq!(calls.filter(|calls| calls.is_array()).count(), 1);
    // The title of a conversation.
    let title = json!({"model": "fake:latest", "stream": false,
        "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": 1000}});
    let title = post(&world, "/api/chat", title).await.json();
    assert!(title["message"]["content"].is_string());
}

#[tokio::test(start_paused = true)]
async fn it_generates_and_unloads() {
    let world = World::new(Script::default()).await;
    let body = json!({"model": "fake:latest", "prompt": "Hello", "suffix": "", "images": [],
        "system": "", "template": "", "context": [], "raw": false, "stream": true,
        "options": {"temperature": 0.1}});
    let lines = post(&world, "/api/generate", body).await.lines();
    let text: String = lines
        .iter()
        .filter_map(|l| l["response"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    let unload = json!({"model": "fake:latest", "keep_alive": 0, "prompt": ""});
    let gone = post(&world, "/api/generate", unload).await.json();
    assert_eq!(gone["done_reason"], "unload");
}

#[tokio::test(start_paused = true)]
async fn it_embeds_documents() {
    let world = World::new(Script::default()).await;
    let body = json!({"model": "fake:latest", "input": ["a cat", "a dog"], "truncate": true,
        "options": {"num_ctx": 512}, "keep_alive": "5m"});
    let made = post(&world, "/api/embed", body).await.json();
    assert_eq!(made["embeddings"].as_array().map(Vec::len), Some(2));
    let older = json!({"model": "fake:latest", "prompt": "a cat"});
    let made = post(&world, "/api/embeddings", older).await.json();
    assert!(made["embedding"].is_array());
    let openai = json!({"model": "fake", "input": ["a cat"], "encoding_format": "float",
        "user": "4e2f", "prefix": null});
    let made = post(&world, "/v1/embeddings", openai).await.json();
    assert!(made["data"][0]["embedding"].is_array());
}

#[tokio::test(start_paused = true)]
async fn it_chats_over_openais_api() {
    let world = World::new(Script::default()).await;
    let body = json!({"model": "fake", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.7, "top_p": 0.9,
        "max_tokens": 128, "user": {"name": "Ada", "id": "4e2f", "email": "a@b", "role": "admin"},
        "metadata": {"chat_id": "c1", "message_id": "m1", "task": "title_generation",
            "features": {"web_search": false}}});
    let events = post(&world, "/v1/chat/completions", body).await.events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    assert!(events.last().unwrap()["usage"]["total_tokens"].is_u64());
}

#[tokio::test(start_paused = true)]
async fn what_it_cannot_have_is_refused_with_a_reason_that_it_shows() {
    let world = World::new(Script::default()).await;
    let picture = json!({"model": "fake:latest",
        "messages": [{"role": "user", "content": "x", "images": [PICTURE]}]});
    for (path, body, status) in [
        ("/api/pull", json!({"model": "nope", "name": "nope"}), 404),
        (
            "/api/push",
            json!({"model": "fake", "insecure": null, "stream": null}),
            400,
        ),
        ("/api/chat", picture, 400),
    ] {
        let reply = world.http(Method::POST, path, &HEADERS, body.to_string());
        let reply = reply.await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.json()["error"].is_string(), "{reply:?}");
    }
}
