//! Events of answers.

use serde_json::json;

use super::*;
use crate::openai::decode_responses;

fn request() -> ResponsesRequest {
    let body = json!({"input": "x", "metadata": {"a": "b"}, "tools": [
        {"type": "function", "name": "f"}, {"type": "function", "name": "g"}]});
    decode_responses(body.to_string().as_bytes()).unwrap()
}

fn text(text: &str) -> AnswerPart {
    AnswerPart::Content(text.into())
}

fn run(pieces: &[AnswerPart], reason: FinishReason) -> Vec<Value> {
    let mut stream = ResponsesStream::new(RequestId(7), "m", &request());
    let mut events = stream.open();
    for piece in pieces {
        events.extend(stream.token(0, vec![piece.clone()], Vec::new()));
    }
    assert!(!stream.is_over());
    let cost = Usage {
        prompt_tokens: 5,
        cached_tokens: 4,
        completion_tokens: 2,
        ..Usage::default()
    };
    events.extend(stream.finish(0, reason, &cost));
    assert!(stream.is_over());
    let numbers: Vec<u64> = events
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
    kinds.map(|k| k.trim_start_matches("response.")).collect()
}

#[test]
fn text_is_streamed_as_a_message_item() {
    let events = run(&[text("Ro"), text("me")], FinishReason::Stop);
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(events[6]["text"], "Rome");
    let response = &events[9]["response"];
    assert_eq!(response["output"][0], events[8]["item"]);
    assert_eq!(response["output"][0]["content"][0]["text"], "Rome");
    assert_eq!(response["metadata"], json!({"a": "b"}));
    assert_eq!(response["store"], false);
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 7})
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
}

#[test]
fn reasoning_text_and_calls_are_separate_items() {
    let call = |name| AnswerPart::ToolCall(ToolCall::new(name, json!({"x": 1})));
    let parts = [
        AnswerPart::Reasoning("Hm.".into()),
        text("Well."),
        call("f"),
        call("g"),
    ];
    let events = run(&parts, FinishReason::Stop);
    let seen = kinds(&events);
    let count = |kind| seen.iter().filter(|k| **k == kind).count();
    assert_eq!(count("output_item.added"), 4);
    assert_eq!(count("output_item.done"), 4);
    assert_eq!(count("reasoning_text.done"), 1);
    assert_eq!(count("function_call_arguments.delta"), 2);
    let output = &events.last().unwrap()["response"]["output"];
    let types: Vec<&Value> = (0..4).map(|n| &output[n]["type"]).collect();
    assert_eq!(
        types,
        ["reasoning", "message", "function_call", "function_call"]
    );
    assert_eq!(output[0]["content"][0]["text"], "Hm.");
    assert_eq!(
        output[2],
        json!({"type": "function_call", "id": "fc_7_2", "call_id": "000007000", "name": "f",
            "arguments": "{\"x\":1}", "status": "completed"})
    );
    assert_eq!(output[3]["call_id"], "000007001");
    for (index, added) in events
        .iter()
        .filter(|event| event["type"] == "response.output_item.added")
        .enumerate()
    {
        assert_eq!(added["output_index"], index);
        assert_eq!(added["item"]["id"], output[index]["id"]);
    }
}

#[test]
fn a_truncated_answer_is_incomplete_and_an_empty_one_is_a_message() {
    let events = run(&[text("Ro")], FinishReason::Length);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    let response = &last["response"];
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
    let events = run(&[], FinishReason::Stop);
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], "");
}

#[test]
fn streamed_items_equal_the_complete_response() {
    let call = ToolCall::new("f", json!({}));
    let mut answer = Answer::new(RequestId(7), "m");
    answer.content = "Well.".into();
    answer.calls = vec![call.clone()];
    let whole = ResponsesStream::new(RequestId(7), "m", &request()).whole(&answer);
    let events = run(
        &[text("We"), text("ll."), AnswerPart::ToolCall(call)],
        FinishReason::Stop,
    );
    assert_eq!(
        whole["output"],
        events.last().unwrap()["response"]["output"]
    );
    assert_eq!(whole["status"], "completed");
}

#[test]
fn a_failure_ends_the_stream_with_response_failed() {
    let mut stream = ResponsesStream::new(RequestId(7), "m", &request());
    _ = stream.open();
    let event = stream.failed("server_error", "the engine is gone");
    assert_eq!(event["type"], "response.failed");
    assert_eq!(event["sequence_number"], 2);
    let response = &event["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(response["error"]["message"], "the engine is gone");
}
