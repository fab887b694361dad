//! `instructions` and `input` as the messages of a chat.

use std::fmt::Display;

use hearth_proto::{Failure, FailureKind};
use serde_json::{Map, Value, json};

use crate::fields::field;

/// The conversation of a request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub(super) fn messages(body: &Map<String, Value>) -> Result<Vec<Value>, Failure> {
    let mut messages = Vec::new();
    if let Some(instructions) = field(body, "instructions").text()? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    match body.get("input") {
        Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) if !items.is_empty() => {
            for item in items {
                add(&mut messages, item)?;
            }
        }
        _ => {
            return Err(Failure::invalid_field(
                "input",
                "must be a string or a list of at least one item",
            ));
        }
    }
    Ok(messages)
}

fn add(messages: &mut Vec<Value>, item: &Value) -> Result<(), Failure> {
    let kind = item.get("type").filter(|kind| !kind.is_null());
    match kind.map(|kind| kind.as_str().unwrap_or("?")) {
        None | Some("message") => messages.push(message(item)?),
        Some("function_call") => add_call(messages, item)?,
        Some("function_call_output") => {
            let id = string(item, "call_id")?;
            let output = text(item.get("output"))?;
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
        }
        // The templates use no reasoning of earlier turns.
        Some("reasoning") => {}
        Some("item_reference") => {
            return Err(not_supported(
                "input",
                "items of type \"item_reference\" name what was kept, and this service \
                 keeps nothing: send the item itself",
            ));
        }
        Some(kind) => {
            return Err(not_supported(
                "input",
                format!(
                    "items of type {kind:?} are not supported: send messages, function calls and \
                     their outputs"
                ),
            ));
        }
    }
    Ok(())
}

fn message(item: &Value) -> Result<Value, Failure> {
    if !item.is_object() {
        return Err(Failure::invalid_field("input", "must hold objects"));
    }
    Ok(json!({"role": string(item, "role")?, "content": text(item.get("content"))?}))
}

/// Adds a call to the assistant's message that it came with.
fn add_call(messages: &mut Vec<Value>, item: &Value) -> Result<(), Failure> {
    let call = json!({
        "id": string(item, "call_id")?,
        "type": "function",
        "function": {"name": string(item, "name")?, "arguments": string(item, "arguments")?},
    });
    match messages.last_mut() {
        Some(last) if last["role"] == "assistant" => match &mut last["tool_calls"] {
            Value::Array(calls) => calls.push(call),
            none => *none = json!([call]),
        },
        _ => messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
    }
    Ok(())
}

/// The text of a message or of a tool's output.
fn text(content: Option<&Value>) -> Result<String, Failure> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts.iter().map(part).collect(),
        Some(_) => Err(Failure::invalid_field(
            "input",
            "must have strings or lists of parts as contents",
        )),
    }
}

fn part(part: &Value) -> Result<&str, Failure> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("?");
    let key = match kind {
        "input_text" | "output_text" | "text" => "text",
        "refusal" => "refusal",
        other => {
            return Err(not_supported(
                "input",
                format!("parts of type {other:?} are not supported, only texts"),
            ));
        }
    };
    let text = part.get(key).and_then(Value::as_str);
    text.ok_or_else(|| {
        Failure::invalid_field("input", format!("parts of type {kind:?} need a `{key}`"))
    })
}

fn string<'a>(item: &'a Value, name: &str) -> Result<&'a str, Failure> {
    let value = item.get(name).and_then(Value::as_str);
    value.ok_or_else(|| {
        let kind = item.get("type").and_then(Value::as_str);
        let kind = kind.unwrap_or("message");
        Failure::invalid_field(
            "input",
            format!("items of type {kind:?} need `{name}`, a string"),
        )
    })
}

pub(super) fn not_supported(field: &str, what: impl Display) -> Failure {
    Failure::of_field(FailureKind::NotSupported, field, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Value, Failure> {
        messages(body.as_object().unwrap()).map(Value::from)
    }

    #[test]
    fn items_become_messages() {
        let user = json!({"role": "user", "content": "Hi"});
        let call = |id: &str| {
            json!({"type": "function_call", "id": "fc", "call_id": id, "name": "f",
                "arguments": "{}", "status": "completed"})
        };
        let called = |id: &str| {
            json!({"id": id, "type": "function",
                "function": {"name": "f", "arguments": "{}"}})
        };
        for (body, expected) in [
            (json!({"input": "Hi"}), json!([user])),
            (
                json!({"instructions": "Be brief.", "input": [
                    {"type": null, "role": "user", "content": "Hi"}]}),
                json!([{"role": "system", "content": "Be brief."}, user]),
            ),
            (
                json!({"instructions": null, "input": [
                    {"type": "message", "role": "user", "content": [
                        {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
                    {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                        {"type": "output_text", "text": "c", "annotations": []},
                        {"type": "refusal", "refusal": "d"}]}]}),
                json!([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]),
            ),
            (
                json!({"input": [
                    {"type": "reasoning", "summary": [], "content": []}, call("1"), call("2"),
                    {"type": "function_call_output", "call_id": "1", "output": "on"},
                    {"type": "function_call_output", "call_id": "2",
                        "output": [{"type": "input_text", "text": "off"}]}]}),
                json!([
                    {"role": "assistant", "content": null, "tool_calls": [called("1"), called("2")]},
                    {"role": "tool", "tool_call_id": "1", "content": "on"},
                    {"role": "tool", "tool_call_id": "2", "content": "off"}]),
            ),
            (
                json!({"input": [{"role": "assistant", "content": "Well."}, call("1")]}),
                json!([{"role": "assistant", "content": "Well.", "tool_calls": [called("1")]}]),
            ),
        ] {
            assert_eq!(read(&body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        use FailureKind::{InvalidArgs, NotSupported};
        let with = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
        for (body, kind, part) in [
            (json!({}), InvalidArgs, "`input` must be"),
            (json!({"input": []}), InvalidArgs, "at least one"),
            (json!({"input": [3]}), InvalidArgs, "objects"),
            (json!({"input": [{"content": "x"}]}), InvalidArgs, "`role`"),
            (
                json!({"input": [{"role": "user", "content": 3}]}),
                InvalidArgs,
                "contents",
            ),
            (
                json!({"input": "x", "instructions": 3}),
                InvalidArgs,
                "`instructions`",
            ),
            (
                with(json!({"type": "input_image"})),
                NotSupported,
                "input_image",
            ),
            (with(json!({"type": "input_text"})), InvalidArgs, "`text`"),
            (
                json!({"input": [{"type": "item_reference", "id": "x"}]}),
                NotSupported,
                "keeps nothing",
            ),
            (
                json!({"input": [{"type": "web_search_call"}]}),
                NotSupported,
                "web_search_call",
            ),
            (
                json!({"input": [{"type": "function_call", "call_id": "1", "name": "f"}]}),
                InvalidArgs,
                "`arguments`",
            ),
            (
                json!({"input": [{"type": "function_call_output", "output": "x"}]}),
                InvalidArgs,
                "`call_id`",
            ),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(error.kind, kind, "{body}: {error}");
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }
}
