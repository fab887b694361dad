//! What OpenAI's endpoints return besides the answers.

use hearth_testing::Script;
use serde_json::{Value, json};

use crate::chats::parts;
use crate::harness::World;
use crate::http::{CHAT, body};

#[tokio::test(start_paused = true)]
async fn ids_differ_between_runs_of_the_daemon() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let world = World::new(parts()).await;
        let mut request = body("x");
        request["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        let answer = world.chat(&request).await;
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["id"];
        seen.extend([answer["id"].clone(), call.clone()]);
    }
    assert_ne!(seen[0], seen[2]);
    assert_ne!(seen[1], seen[3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_enforced_of_a_schema_is_named_in_a_header() {
    let world = World::new(Script::default()).await;
    let mut request = body("x");
    let parameters = json!({"type": "object", "properties": {"a": {"uniqueItems": true}}});
    request["tools"] = json!([{"type": "function",
        "function": {"name": "f", "parameters": parameters}}]);
    for stream in [false, true] {
        request["stream"] = stream.into();
        let reply = world.post(CHAT, &request).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let named = reply.header("x-hearthd-not-enforced");
        assert_eq!(named, "f/properties/a/uniqueItems");
    }
    request["tools"][0]["function"]["strict"] = true.into();
    let reply = world.post(CHAT, &request).await;
    assert_eq!((reply.status, reply.code()), (400, "invalid_schema".into()));
    let reply = world.post(CHAT, &body("x")).await;
    assert_eq!(reply.header("x-hearthd-not-enforced"), "");
}

#[tokio::test(start_paused = true)]
async fn a_completion_answers_every_prompt() {
    let world = World::new(Script::default()).await;
    let request = json!({"prompt": ["one", "two"], "n": 2, "echo": true});
    let answer = world.post("/v1/completions", &request).await.json();
    let choices = answer["choices"].as_array().unwrap();
    let texts: Vec<&Value> = choices.iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["oneone", "oneone", "twotwo", "twotwo"]);
    assert_eq!(choices[3]["index"], 3);
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    assert_eq!(answer["usage"]["completion_tokens"], 12);
}
