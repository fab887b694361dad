//! The messages of a conversation, and which tool result belongs to which call.

use std::collections::VecDeque;

use hearth_proto::{Failure, FailureKind, Message};
use serde_json::{Map, Value};

use crate::fields::{content, field, tool_call};

/// The conversation.
pub(super) fn messages(list: &[Value]) -> Result<Vec<Message>, Failure> {
    let mut calls = Calls::default();
    list.iter()
        .map(|value| message(value, &mut calls))
        .collect()
}

fn message(value: &Value, calls: &mut Calls) -> Result<Message, Failure> {
    let Value::Object(map) = value else {
        return Err(Failure::invalid_field("messages", "must hold objects"));
    };
    let text = |name| field(map, name).text();
    let Some(role) = text("role")?.filter(|role| !role.is_empty()) else {
        return Err(Failure::invalid("each message needs a `role`"));
    };
    no_images(map)?;
    let mut message = Message {
        role,
        content: content(map.get("content"))?,
        reasoning_content: text("thinking")?.unwrap_or_default(),
        tool_calls: match map.get("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().map(|call| calls.asked(call)).collect(),
            Some(_) => return Err(Failure::invalid_field("tool_calls", "must be a list")),
        },
        tool_call_id: text("tool_call_id")?,
        name: match text("tool_name")? {
            None => text("name")?,
            name => name,
        },
    };
    if message.role == "tool" {
        calls.answered(&mut message);
    }
    Ok(message)
}

/// Calls of a conversation that have no result yet, by id and name. Results need not name
/// their call: they come in the order of the calls.
#[derive(Default)]
struct Calls {
    open: VecDeque<(String, Option<String>)>,
    count: usize,
}

impl Calls {
    /// A call in the form for templates, with an id, which some of them require.
    fn asked(&mut self, call: &Value) -> Value {
        self.count += 1;
        let mut call = tool_call(call);
        let name = call.pointer("/function/name").and_then(Value::as_str);
        let name = name.map(str::to_owned);
        let id = match call.get("id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => id.to_owned(),
            // The length that Mistral's templates require.
            _ => format!("{:09}", self.count),
        };
        if let Value::Object(call) = &mut call {
            call.insert("id".into(), id.as_str().into());
            call.insert("type".into(), "function".into());
        }
        self.open.push_back((id, name));
        call
    }

    fn answered(&mut self, answer: &mut Message) {
        let wanted = answer.tool_call_id.as_ref();
        let at = match (wanted, &answer.name) {
            (Some(id), _) => self.open.iter().position(|(other, _)| other == id),
            (None, Some(name)) => {
                let named = |(_, other): &(String, Option<String>)| other.as_ref() == Some(name);
                self.open.iter().position(named).or(Some(0))
            }
            (None, None) => Some(0),
        };
        if let Some((id, name)) = at.and_then(|at| self.open.remove(at)) {
            answer.tool_call_id = Some(id);
            answer.name = answer.name.take().or(name);
        }
    }
}

/// Refuses images: an answer that ignores them would be made up.
pub(super) fn no_images(map: &Map<String, Value>) -> Result<(), Failure> {
    match map.get("images") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(images)) if images.is_empty() => Ok(()),
        Some(_) => Err(unsupported(
            "images",
            "this service reads text only, leave them out",
        )),
    }
}

/// A field that is not supported; `what` follows its name and a colon.
pub(super) fn unsupported(field: &str, what: &str) -> Failure {
    Failure::new(FailureKind::NotSupported, format!("`{field}`: {what}")).about(field)
}
