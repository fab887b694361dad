//! Anthropic's API over HTTP.

use std::time::Duration;

use hearth_proto::{GenerateRequest, Prompt, Thinking, ToolChoice};
use hearth_testing::{Answers, Script};
use hyper::Method;
use serde_json::{Value, json};

use crate::chats::parts;
use crate::harness::{World, counted};
use crate::http::Reply;

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn request(content: &str) -> Value {
    json!({"max_tokens": 1000, "messages": [{"role": "user", "content": content}]})
}

/// The events of a stream, each with its event name.
async fn stream(world: &World, mut request: Value) -> Vec<Value> {
    request["stream"] = true.into();
    let reply = world.post(MESSAGES, &request).await;
    assert_eq!(
        reply.header("content-type"),
        "text/event-stream",
        "{reply:?}"
    );
    let names = reply.body.lines().filter_map(|l| l.strip_prefix("event: "));
    let events = reply.events();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(names.collect::<Vec<_>>(), kinds, "{reply:?}");
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

/// The status and the type of a refusal.
fn refusal(reply: &Reply) -> (u16, String) {
    let body = reply.json();
    assert_eq!(body["type"], "error", "{reply:?}");
    let kind = body["error"]["type"].as_str();
    (
        reply.status,
        kind.unwrap_or_else(|| panic!("{reply:?}")).to_owned(),
    )
}

/// The last request that the engine received.
fn asked(world: &World) -> GenerateRequest {
    world.requests().pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn messages_are_the_same_whole_and_streamed() {
    let world = World::new(Script::default()).await;
    let reply = world.post(MESSAGES, &request("Hello there")).await;
    assert!(reply.header("request-id").starts_with("req_"), "{reply:?}");
    let whole = reply.json();
    assert_eq!(
        whole["content"],
        json!([{"type": "text", "text": "Hello there"}])
    );
    assert_eq!(
        (&whole["role"], &whole["model"]),
        (&json!("assistant"), &json!("fake"))
    );
    assert_eq!(whole["stop_reason"], "end_turn");
    assert_eq!(whole["usage"]["input_tokens"], 11);
    let events = stream(&world, request("Hello there")).await;
    let start = &events[0]["message"];
    // The second time, all of the prompt but its last token is in the cache.
    let usage = json!({"input_tokens": 1, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 10, "output_tokens": 0,
        "output_tokens_details": {"thinking_tokens": 0}});
    assert_eq!((&start["usage"], &start["content"]), (&usage, &json!([])));
    let text: String = events
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(text, "Hello there");
    let end = &events[events.len() - 2];
    assert_eq!(
        end["delta"],
        json!({"stop_reason": "end_turn", "stop_sequence": null})
    );
    assert_eq!(end["usage"]["output_tokens"], 11);
}

#[tokio::test(start_paused = true)]
async fn messages_stream_events_come_in_the_documented_order() {
    let world = World::new(parts()).await;
    let mut request = request("x");
    request["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    request["tools"] = json!([{"name": "f", "input_schema": {"type": "object",
        "properties": {"x": {"type": "integer"}}}}]);
    let events = stream(&world, request.clone()).await;
    let (start, delta, stop) = (
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    );
    let expected = [
        // Thinking in two deltas and its signature, then text, then a call.
        &["message_start", "ping", start, delta, delta, delta, stop][..],
        &[start, delta, stop, start, delta, stop],
        &["message_delta", "message_stop"],
    ];
    assert_eq!(kinds(&events), expected.concat());
    let indices = events.iter().filter_map(|event| event["index"].as_u64());
    assert_eq!(
        indices.collect::<Vec<_>>(),
        [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    );
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
    let whole = world.post(MESSAGES, &request).await.json();
    let blocks = whole["content"].as_array().unwrap();
    let blocks = kinds(blocks);
    assert_eq!(blocks, ["thinking", "text", "tool_use"]);
    assert_eq!(whole["content"][2]["input"], json!({"x": 1}));
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(asked(&world).reasoning_budget, Some(1024));
}

#[tokio::test(start_paused = true)]
async fn messages_result_of_a_tool_continues_the_conversation() {
    let world = World::new(parts()).await;
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"}]);
    let mut first = request("x");
    first["tools"] = tools.clone();
    first["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
    let answer = world.post(MESSAGES, &first).await.json();
    let sent = asked(&world);
    assert!(sent.one_call && sent.tool_choice == ToolChoice::Required);
    let id = &answer["content"][2]["id"];
    let result = json!({"type": "tool_result", "tool_use_id": id, "content": "42"});
    let second = json!({"max_tokens": 9, "tools": tools, "messages": [
        first["messages"][0], {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [result]}]});
    assert_eq!(world.post(MESSAGES, &second).await.status, 200);
    let Prompt::Chat { messages, tools } = asked(&world).prompt else {
        panic!()
    };
    assert_eq!(tools.len(), 1);
    let call = &messages[1].tool_calls[0];
    assert_eq!(
        (&call["id"], &call["function"]["arguments"]),
        (id, &json!({"x": 1}))
    );
    assert_eq!(messages[1].reasoning_content, "Hm.");
    let result = &messages[2];
    assert_eq!(
        (result.role.as_str(), result.tool_call_id.as_deref()),
        ("tool", id.as_str())
    );
    assert_eq!(
        (result.content.as_str(), result.name.as_deref()),
        ("42", Some("f"))
    );
}

#[tokio::test(start_paused = true)]
async fn messages_max_tokens_and_prefill_are_passed_on() {
    let world = World::new(Script::default()).await;
    let request = json!({"max_tokens": 3, "messages": [
        {"role": "user", "content": "?"}, {"role": "assistant", "content": "12345"}]});
    let cut = world.post(MESSAGES, &request).await.json();
    assert_eq!(cut["content"][0]["text"], "123");
    assert_eq!(cut["stop_reason"], "max_tokens");
    let sent = asked(&world);
    assert!(sent.continue_final_message);
    assert_eq!(sent.thinking, Some(Thinking::Off));
}

#[tokio::test(start_paused = true)]
async fn messages_errors_have_anthropics_form() {
    let world = World::with("[queue]\nprompt_max_bytes = 2000\n", Script::default()).await;
    let refused = world
        .post(MESSAGES, &json!({"model": "claude-x", "messages": []}))
        .await;
    assert_eq!(refusal(&refused), (400, "invalid_request_error".into()));
    let mut unknown = request("x");
    unknown["model"] = "claude-x".into();
    let unknown = world.post(MESSAGES, &unknown).await;
    assert_eq!(refusal(&unknown), (404, "not_found_error".into()));
    let message = unknown.json()["error"]["message"].take();
    assert!(message.as_str().unwrap().contains("fake"), "{message}");
    let long = world.post(MESSAGES, &request(&counted(500))).await;
    assert_eq!(refusal(&long), (400, "invalid_request_error".into()));
    let message = long.json()["error"]["message"].take();
    assert!(
        message
            .as_str()
            .unwrap()
            .starts_with("prompt is too long: "),
        "{message}"
    );
    for (method, path, expected) in [
        (Method::GET, MESSAGES, (405, "invalid_request_error")),
        (
            Method::POST,
            "/v1/messages/batches",
            (404, "not_found_error"),
        ),
    ] {
        let reply = world.http(method, path, &[], String::new()).await;
        assert_eq!(refusal(&reply), (expected.0, expected.1.into()), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_failure_during_a_stream_is_the_last_event() {
    let world = World::new(Script::token_ms(20)).await;
    // Long enough that the stream has begun before the failure.
    let events = stream(&world, request(&format!("{} !fail", counted(20)))).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "error");
    assert_eq!(last["error"]["type"], "api_error");
    assert!(
        last["request_id"].as_str().unwrap().starts_with("req_"),
        "{last}"
    );
    // A rejection before the stream begins has a status.
    let mut request = request("x");
    request["stream"] = true.into();
    request["model"] = "nope".into();
    let refused = world.post(MESSAGES, &request).await;
    assert_eq!(refusal(&refused), (404, "not_found_error".into()));
}

#[tokio::test(start_paused = true)]
async fn messages_stream_is_kept_alive_by_pings() {
    let script = Script {
        prefill_time: Duration::from_secs(1),
        ..Script::answering(Answers::new(hearth_testing::echo))
    };
    let world = World::new(script).await;
    let events = stream(&world, request(&"x".repeat(60))).await;
    let pings = events
        .iter()
        .filter(|event| event["type"] == "ping")
        .count();
    assert!(pings > 3, "{pings}");
}

#[tokio::test(start_paused = true)]
async fn messages_are_refused_as_overloaded_when_the_service_stops() {
    let world = World::new(Script::default()).await;
    world.daemon.drain().await;
    let reply = world.post(MESSAGES, &request("x")).await;
    assert_eq!(refusal(&reply), (529, "overloaded_error".into()));
    assert!(!reply.header("retry-after").is_empty(), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn count_tokens_counts_what_a_message_would_cost() {
    let world = World::new(Script::default()).await;
    let mut request = request("Hello there");
    let counted = world.post(COUNT, &request).await;
    assert_eq!(counted.json(), json!({"input_tokens": 11}), "{counted:?}");
    let usage = world.post(MESSAGES, &request).await.json()["usage"].take();
    assert_eq!(usage["input_tokens"], 11);
    assert!(world.requests().len() == 1, "counting computes nothing");
    request["max_tokens"].take();
    assert_eq!(world.post(COUNT, &request).await.status, 200);
    request["messages"][0]["content"] = json!([{"type": "video"}]);
    let refused = world.post(COUNT, &request).await;
    assert_eq!(refusal(&refused), (400, "invalid_request_error".into()));
}

#[tokio::test(start_paused = true)]
async fn models_have_anthropics_form_for_its_clients() {
    let config = "[model]\naliases = { \"claude-x\" = \"fake\" }\n";
    let world = World::with(config, Script::default()).await;
    let version = [("anthropic-version", "2023-06-01")];
    let ask = async |path: &str| world.http(Method::GET, path, &version, String::new()).await;
    let list = ask("/v1/models?limit=1").await.json();
    assert_eq!(
        (&list["first_id"], &list["has_more"]),
        (&json!("fake"), &json!(false))
    );
    assert_eq!(list["data"][0]["type"], "model");
    let one = ask("/v1/models/claude-x").await.json();
    assert_eq!(one, list["data"][0]);
    assert_eq!(
        refusal(&ask("/v1/models/nope").await),
        (404, "not_found_error".into())
    );
    assert_eq!(
        refusal(&ask("/v1/models?limit=0").await),
        (400, "invalid_request_error".into())
    );
    let wrong = world.http(Method::POST, "/v1/models", &version, String::new());
    assert_eq!(refusal(&wrong.await), (405, "invalid_request_error".into()));
    let mut named = request("x");
    named["model"] = "claude-x".into();
    assert_eq!(world.post(MESSAGES, &named).await.json()["model"], "fake");
    // The other clients are not concerned.
    assert_eq!(
        world.get("/v1/models?limit=0").await.json()["object"],
        "list"
    );
}
