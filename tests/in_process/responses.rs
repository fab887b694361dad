//! `/v1/responses`: what the official client does not check.

use hearth_testing::Script;
use serde_json::{Value, json};

use crate::chats::parts;
use crate::harness::{World, counted};
use crate::http::Reply;

const PATH: &str = "/v1/responses";

/// The events of a stream, each with its event name.
async fn stream(world: &World, mut request: Value) -> (Reply, Vec<Value>) {
    request["stream"] = true.into();
    let reply = world.post(PATH, &request).await;
    let mut name = "";
    let mut events = Vec::new();
    for line in reply.body.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["type"], name, "{reply:?}");
            assert_eq!(event["sequence_number"], events.len(), "{reply:?}");
            events.push(event);
        }
    }
    (reply, events)
}

fn kinds(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().unwrap();
    let kinds = output.iter().map(|item| item["type"].as_str().unwrap());
    kinds.collect()
}

#[tokio::test(start_paused = true)]
async fn reasoning_and_calls_are_items_whole_and_streamed() {
    let world = World::new(parts()).await;
    let request = json!({"input": "x", "tools": [{"type": "function", "name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}]});
    let whole = world.post(PATH, &request).await.json();
    let expected = ["reasoning", "message", "function_call"];
    assert_eq!(kinds(&whole), expected, "{whole}");
    assert_eq!(whole["output"][0]["content"][0]["text"], "Hm.");
    assert_eq!(whole["output"][2]["arguments"], "{\"x\":1}");
    let (reply, events) = stream(&world, request).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{reply:?}");
    assert_eq!(kinds(&last["response"]), expected);
    assert!(!reply.body.contains("[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_continues_from_a_previous_response() {
    let world = World::new(Script::default()).await;
    let first = world.post(PATH, &json!({"input": "one"})).await.json();
    let item = &first["output"][0];
    assert_eq!(item["content"][0]["text"], "one");
    let input =
        json!([{"role": "user", "content": "one"}, item, {"role": "user", "content": "two"}]);
    let second = json!({"input": input, "store": true});
    let second = world.post(PATH, &second).await.json();
    assert_eq!(second["output"][0]["content"][0]["text"], "two");
    assert_eq!(second["store"], false);
    let refused = json!({"input": "three", "previous_response_id": first["id"]});
    let refused = world.post(PATH, &refused).await;
    assert_eq!(refused.code(), "not_supported");
    assert_eq!(refused.json()["error"]["param"], "previous_response_id");
}

#[tokio::test(start_paused = true)]
async fn a_failure_during_a_stream_is_the_last_event() {
    let world = World::new(Script::token_ms(20)).await;
    // Long enough that the stream has begun before the failure.
    let said = format!("{} !fail", counted(20));
    let (reply, events) = stream(&world, json!({"input": said})).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed", "{reply:?}");
    let response = &last["response"];
    let ended = (&response["status"], &response["error"]["code"]);
    assert_eq!(ended, (&json!("failed"), &json!("server_error")));
    // A rejection before the stream begins has a status.
    let request = json!({"input": "x", "stream": true, "model": "nope"});
    let refused = world.post(PATH, &request).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "model_not_found")
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_cannot_be_fetched_by_its_id_and_that_is_said() {
    let world = World::new(Script::default()).await;
    for path in ["/v1/responses/resp_1", "/v1/responses/resp_1/cancel"] {
        let refused = world.post(path, &json!({})).await;
        assert_eq!(refused.status, 404);
        assert!(refused.body.contains("are not stored"), "{refused:?}");
    }
}
