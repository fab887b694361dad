use serde_json::json;

use super::*;
use crate::anthropic::decode_messages;

fn stream(extra: &Value) -> MessagesStream {
    let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    let request = decode_messages(body.to_string().as_bytes()).unwrap();
    MessagesStream::new(RequestId(7), "m", &request)
}

fn text(text: &str) -> AnswerPart {
    AnswerPart::Content(text.into())
}

fn thought(text: &str) -> AnswerPart {
    AnswerPart::Reasoning(text.into())
}

fn call(name: &str, arguments: Value) -> AnswerPart {
    AnswerPart::ToolCall(ToolCall::new(name, arguments))
}

fn usage() -> Usage {
    Usage {
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 3,
        reasoning_tokens: 2,
        ..Usage::default()
    }
}

fn run(stream: &mut MessagesStream, parts: &[AnswerPart]) -> Vec<Value> {
    let progress = Progress {
        prompt_tokens: 10,
        cached_tokens: 4,
        ..Progress::default()
    };
    let mut events = stream.prompt(0, &progress);
    assert!(stream.prompt(0, &progress).is_empty());
    for part in parts {
        events.extend(stream.token(0, vec![part.clone()], Vec::new()));
    }
    assert!(!stream.is_over());
    events.extend(stream.finish(0, FinishReason::Stop, &usage()));
    assert!(stream.is_over());
    events
}

/// The events between the first two and the last two.
fn inner(events: &[Value]) -> Value {
    events[2..events.len() - 2].into()
}

#[test]
fn a_message_begins_and_ends_with_its_figures() {
    let events = run(&mut stream(&json!({})), &[text("Ro"), text("me")]);
    assert_eq!(
        events[0],
        json!({"type": "message_start", "message": {"id": "msg_7", "type": "message",
            "role": "assistant", "model": "m", "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": {"input_tokens": 6, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4, "output_tokens": 0,
                "output_tokens_details": {"thinking_tokens": 0}}}})
    );
    assert_eq!(events[1], json!({"type": "ping"}));
    assert_eq!(
        inner(&events),
        json!([
            {"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "Ro"}},
            {"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "me"}},
            {"type": "content_block_stop", "index": 0},
        ])
    );
    let last = &events[events.len() - 2..];
    assert_eq!(
        Value::from(last),
        json!([
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"input_tokens": 6, "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 4, "output_tokens": 3,
                    "output_tokens_details": {"thinking_tokens": 2}}},
            {"type": "message_stop"},
        ])
    );
}

#[test]
fn thinking_text_and_calls_are_blocks_in_their_order() {
    let parts = [
        thought("Hm."),
        text("Ok."),
        text(""),
        call("f", json!({"x": 1})),
        call("g", json!({})),
    ];
    let events = run(&mut stream(&json!({})), &parts);
    let used = |n: usize, id: &str, name: &str, arguments: &str| {
        [
            json!({"type": "content_block_start", "index": n, "content_block":
                {"type": "tool_use", "id": id, "name": name, "input": {}}}),
            json!({"type": "content_block_delta", "index": n,
                "delta": {"type": "input_json_delta", "partial_json": arguments}}),
            json!({"type": "content_block_stop", "index": n}),
        ]
    };
    let mut expected = vec![
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "Hm."}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "signature_delta", "signature": SIGNATURE}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "text_delta", "text": "Ok."}}),
        json!({"type": "content_block_stop", "index": 1}),
    ];
    expected.extend(used(2, "000007000", "f", "{\"x\":1}"));
    expected.extend(used(3, "000007001", "g", "{}"));
    assert_eq!(inner(&events), Value::from(expected));
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn hidden_thinking_is_a_block_without_text() {
    let hidden = json!({"thinking": {"type": "adaptive", "display": "omitted"}});
    let events = run(&mut stream(&hidden), &[thought("Hm."), text("Ok.")]);
    assert_eq!(events[2]["content_block"]["type"], "thinking");
    assert_eq!(events[3]["delta"]["type"], "signature_delta");
    let mut answer = Answer::new(RequestId(7), "m");
    answer.reasoning = "Hm.".into();
    assert_eq!(
        stream(&hidden).whole(&answer)["content"],
        json!([{"type": "thinking", "thinking": "", "signature": SIGNATURE}])
    );
}

#[test]
fn an_empty_answer_has_one_empty_block() {
    let events = run(&mut stream(&json!({})), &[]);
    assert_eq!(
        inner(&events),
        json!([
            {"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_stop", "index": 0},
        ])
    );
    let whole = stream(&json!({})).whole(&Answer::new(RequestId(7), "m"));
    assert_eq!(whole["content"], json!([{"type": "text", "text": ""}]));
}

#[test]
fn a_whole_message_has_the_blocks_of_a_stream() {
    let answer = Answer {
        reasoning: "Hm.".into(),
        content: "Ok.".into(),
        calls: vec![ToolCall::new("f", json!({"x": 1}))],
        usage: usage(),
        ..Answer::new(RequestId(7), "m")
    };
    assert_eq!(
        stream(&json!({})).whole(&answer),
        json!({"id": "msg_7", "type": "message", "role": "assistant", "model": "m", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
            {"type": "text", "text": "Ok."},
            {"type": "tool_use", "id": "000007000", "name": "f", "input": {"x": 1}},
        ], "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 6,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 2}}})
    );
}

#[test]
fn an_answer_that_was_cut_off_says_so() {
    let mut cut = stream(&json!({}));
    _ = cut.token(0, vec![call("f", json!({}))], Vec::new());
    let events = cut.finish(0, FinishReason::Length, &usage());
    assert_eq!(events[0]["delta"]["stop_reason"], "max_tokens");
}

#[test]
fn a_stop_sequence_is_named() {
    let mut stopped = stream(&json!({}));
    stopped.stopped_by(0, "END");
    let events = stopped.finish(0, FinishReason::Stop, &usage());
    let expected = json!({"stop_reason": "stop_sequence", "stop_sequence": "END"});
    assert_eq!(events[events.len() - 2]["delta"], expected);
    let answer = Answer {
        stop_string: Some("END".into()),
        ..Answer::new(RequestId(7), "m")
    };
    let whole = stream(&json!({})).whole(&answer);
    assert_eq!(whole["stop_reason"], "stop_sequence");
    assert_eq!(whole["stop_sequence"], "END");
}
