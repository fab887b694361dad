//! `instructions` and `input` as the messages of a chat.

use std::fmt::Display;

use hearth_proto::{Failure, FailureKind, Media, Message, check_media};
use serde::Deserialize;
use serde::de::{Error, SeqAccess};
use serde_json::{Map, Value, json};

use crate::content::{Content, Part, role, tool_call};
use crate::media::picture;
use crate::read::{join, quote, read, read_in};
use crate::scalars::Text;
use crate::shape::{List, Object, Shape, deserialize_by_shape};

#[derive(Debug, Deserialize)]
struct InputFields {
    instructions: Option<Text>,
    input: Option<Input>,
}

/// What the model answers.
#[derive(Debug)]
enum Input {
    Text(String),
    /// Their fields depend on their type.
    Items(Vec<Map<String, Value>>),
}

deserialize_by_shape!(Input);

impl<'de> Shape<'de> for Input {
    const WHAT: &'static str = "must be a string or a list of at least one item";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::Text(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(items) = List::<Object<Map<String, Value>>>::list(list)?;
        Ok(Self::Items(items.into_iter().map(|item| item.0).collect()))
    }
}

/// The fields of all types of items that are used.
#[derive(Debug, Deserialize)]
struct MessageItem {
    role: Option<Text>,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
struct CallItem {
    call_id: Option<Text>,
    name: Option<Text>,
    arguments: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct OutputItem {
    call_id: Option<Text>,
    output: Option<Content>,
}

/// The conversation of a request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub(super) fn messages(body: &Map<String, Value>) -> Result<Vec<Message>, Failure> {
    let fields: InputFields = read(body)?;
    let instructions = fields.instructions.map(|text| Message {
        role: "system".into(),
        content: text.0,
        ..Message::default()
    });
    let mut messages: Vec<Message> = instructions.into_iter().collect();
    match fields.input {
        Some(Input::Text(text)) => messages.push(Message::user(text)),
        Some(Input::Items(items)) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                add(&mut messages, &format!("input[{n}]"), item)?;
            }
        }
        _ => return Err(Failure::invalid_field("input", Input::WHAT)),
    }
    check_media(messages.iter().flat_map(|message| &message.media))?;
    Ok(messages)
}

/// Adds the item at this place in the request.
fn add(messages: &mut Vec<Message>, place: &str, item: &Map<String, Value>) -> Result<(), Failure> {
    let kind = item.get("type").filter(|kind| !kind.is_null());
    match kind.map(|kind| kind.as_str().unwrap_or("?")) {
        None | Some("message") => {
            let item: MessageItem = read_in(place, item)?;
            let (content, media) = text_and_media(item.content, &join(place, "content"))?;
            messages.push(Message {
                role: role(needed(item.role, place, "role")?, place)?,
                content,
                media,
                ..Message::default()
            });
        }
        Some("function_call") => add_call(messages, place, read_in(place, item)?)?,
        Some("function_call_output") => {
            let item: OutputItem = read_in(place, item)?;
            messages.push(Message {
                role: "tool".into(),
                tool_call_id: Some(needed(item.call_id, place, "call_id")?),
                content: text(item.output, &join(place, "output"))?,
                ..Message::default()
            });
        }
        // The templates use no reasoning of earlier turns.
        Some("reasoning") => {}
        Some("item_reference") => {
            return Err(not_supported(
                place,
                "of type \"item_reference\" names what was kept, and this service keeps \
                 nothing: send the item itself",
            ));
        }
        Some(kind) => {
            return Err(not_supported(
                place,
                format_args!(
                    "of type {} is not supported: send messages, function calls and their outputs",
                    quote(kind)
                ),
            ));
        }
    }
    Ok(())
}

/// Adds a call to the assistant's message that it came with.
fn add_call(messages: &mut Vec<Message>, place: &str, item: CallItem) -> Result<(), Failure> {
    let call = tool_call(json!({
        "id": needed(item.call_id, place, "call_id")?,
        "type": "function",
        "function": {
            "name": needed(item.name, place, "name")?,
            "arguments": needed(item.arguments, place, "arguments")?,
        },
    }));
    match messages.last_mut() {
        Some(last) if last.role == "assistant" => last.tool_calls.push(call),
        _ => messages.push(Message {
            role: "assistant".into(),
            tool_calls: vec![call],
            ..Message::default()
        }),
    }
    Ok(())
}

/// The text of a message, and the pictures in it.
fn text_and_media(content: Option<Content>, place: &str) -> Result<(String, Vec<Media>), Failure> {
    let parts = match content {
        Some(Content::Parts(parts)) => parts,
        other => return Ok((text(other, place)?, Vec::new())),
    };
    let (mut whole, mut media) = (String::new(), Vec::new());
    for (n, one) in parts.into_iter().enumerate() {
        match one.kind.as_ref().map(|kind| kind.0.as_str()) {
            Some("input_image") => {
                let place = format!("{place}[{n}]");
                media.push(picture(&place, one.image_url.as_ref(), whole.len())?);
            }
            _ => whole.push_str(&part(one, place)?),
        }
    }
    Ok((whole, media))
}

/// The text of a message or of a tool's output.
fn text(content: Option<Content>, place: &str) -> Result<String, Failure> {
    match content {
        None => Ok(String::new()),
        Some(Content::Text(text)) => Ok(text),
        Some(Content::Parts(parts)) => parts.into_iter().map(|p| part(p, place)).collect(),
    }
}

fn part(part: Part, place: &str) -> Result<String, Failure> {
    let kind = part.kind.map_or_else(|| "?".to_owned(), Into::into);
    let (key, text) = match kind.as_str() {
        "input_text" | "output_text" | "text" => ("text", part.text),
        "refusal" => ("refusal", part.refusal),
        other => {
            return Err(not_supported(
                place,
                format_args!(
                    "has a part of type {}; only texts and images are supported",
                    quote(other)
                ),
            ));
        }
    };
    let missing = || {
        let what = format!("must have a `{key}` in each part of type {kind:?}");
        Failure::invalid_field(place, what)
    };
    text.map(Into::into).ok_or_else(missing)
}

fn needed(text: Option<Text>, place: &str, name: &str) -> Result<String, Failure> {
    let missing = || Failure::invalid_field(place, format_args!("needs a `{name}`"));
    text.map(Into::into).ok_or_else(missing)
}

pub(super) fn not_supported(field: &str, what: impl Display) -> Failure {
    Failure::of_field(FailureKind::NotSupported, field, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Value, Failure> {
        let messages = messages(body.as_object().unwrap())?;
        Ok(serde_json::to_value(messages).unwrap())
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
                "function": {"name": "f", "arguments": {}}})
        };
        for (body, expected) in [
            (json!({"input": "Hi"}), json!([user])),
            (
                json!({"instructions": "Be brief.", "input": [
                    {"type": null, "role": "user", "content": "Hi"}]}),
                json!([{"role": "system", "content": "Be brief."}, user]),
            ),
            (
                json!({"instructions": null, "input": [{"role": "developer"},
                    {"type": "message", "role": "user", "content": [
                        {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
                    {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                        {"type": "output_text", "text": "c", "annotations": []},
                        {"type": "refusal", "refusal": "d"}]}]}),
                json!([{"role": "system", "content": ""},
                    {"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]),
            ),
            (
                json!({"input": [
                    {"type": "reasoning", "summary": [], "content": []}, call("1"), call("2"),
                    {"type": "function_call_output", "call_id": "1", "output": "on"},
                    {"type": "function_call_output", "call_id": "2",
                        "output": [{"type": "input_text", "text": "off"}]}]}),
                json!([
                    {"role": "assistant", "content": "", "tool_calls": [called("1"), called("2")]},
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
    fn errors_name_the_item() {
        use FailureKind::{InvalidArgs, NotSupported};
        let with = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
        for (body, kind, part) in [
            (json!({}), InvalidArgs, "`input` must be"),
            (json!({"input": []}), InvalidArgs, "at least one"),
            (
                json!({"input": [3]}),
                InvalidArgs,
                "`input[0]` must be an object",
            ),
            (json!({"input": [{"content": "x"}]}), InvalidArgs, "`role`"),
            (
                json!({"input": [{"role": "user", "content": 3}]}),
                InvalidArgs,
                "`input[0].content`",
            ),
            (
                json!({"input": "x", "instructions": 3}),
                InvalidArgs,
                "`instructions`",
            ),
            (
                with(json!({"type": "input_image"})),
                InvalidArgs,
                "`input[0].content[0].image_url`",
            ),
            (
                with(json!({"type": "input_file"})),
                NotSupported,
                "input_file",
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
