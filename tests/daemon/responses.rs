//! `/v1/responses` of the real daemon: what the official client does not check.

use serde_json::{Value, json};

use crate::client::{counted, reply, send_to};
use crate::harness::{Daemon, ok};

const PATH: &str = "/v1/responses";

fn ask(daemon: &Daemon, body: &Value) -> (String, Value) {
    reply(send_to(daemon, PATH, &body.to_string()))
}

/// The events of a stream, each with its event name.
fn stream(daemon: &Daemon, mut body: Value) -> (String, Vec<Value>) {
    body["stream"] = true.into();
    let text = ok(&daemon.curl(PATH, &["-N", "-d", &body.to_string()]));
    let mut name = "";
    let mut events = Vec::new();
    for line in text.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["type"], name, "{text}");
            assert_eq!(event["sequence_number"], events.len(), "{text}");
            events.push(event);
        }
    }
    (text, events)
}

/// The fake engine echoes the prompt.
#[test]
fn reasoning_and_calls_are_items_whole_and_streamed() {
    let daemon = Daemon::fake("");
    let said = "<think>\nHm.\n</think>\n\nYes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let body = json!({"input": said, "tools": [{"type": "function", "name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}]});
    let (_, whole) = ask(&daemon, &body);
    let kinds = |response: &Value| -> Vec<String> {
        let output = response["output"].as_array().unwrap();
        let kinds = output.iter().map(|item| item["type"].as_str().unwrap());
        kinds.map(str::to_owned).collect()
    };
    let expected = ["reasoning", "message", "function_call"];
    assert_eq!(kinds(&whole), expected, "{whole}");
    assert_eq!(whole["output"][0]["content"][0]["text"], "Hm.");
    assert_eq!(whole["output"][2]["arguments"], "{\"x\":1}");

    let (text, events) = stream(&daemon, body);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{text}");
    assert_eq!(kinds(&last["response"]), expected);
    assert!(!text.contains("[DONE]"), "{text}");
}

#[test]
fn a_conversation_goes_on_with_what_the_response_said() {
    let daemon = Daemon::fake("");
    let (_, first) = ask(&daemon, &json!({"input": "one"}));
    let item = &first["output"][0];
    assert_eq!(item["content"][0]["text"], "one");
    let input =
        json!([{"role": "user", "content": "one"}, item, {"role": "user", "content": "two"}]);
    let (_, second) = ask(&daemon, &json!({"input": input, "store": true}));
    assert_eq!(second["output"][0]["content"][0]["text"], "two");
    assert_eq!(second["store"], false);
    let (_, refused) = ask(
        &daemon,
        &json!({"input": "three", "previous_response_id": first["id"]}),
    );
    assert_eq!(refused["error"]["code"], "not_supported", "{refused}");
    assert_eq!(refused["error"]["param"], "previous_response_id");
}

#[test]
fn a_failure_in_the_middle_is_the_last_event() {
    let daemon = Daemon::fake("token-ms=20");
    // Long enough that the stream has begun before the failure.
    let said = format!("{} !fail", counted(20));
    let (text, events) = stream(&daemon, json!({"input": said}));
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed", "{text}");
    let response = &last["response"];
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
    // A rejection before the stream begins has a status.
    let body = json!({"input": "x", "stream": true, "model": "nope"});
    let (head, error) = ask(&daemon, &body);
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert_eq!(error["error"]["code"], "model_not_found");
}
