//! The messages of a conversation, and which tool result belongs to which call.

use std::collections::VecDeque;

use hearth_proto::{Failure, FailureKind, Message, check_media};
use serde::Deserialize;
use serde_json::Value;

use crate::content::{Content, role, tool_call};
use crate::media::images;
use crate::scalars::Text;
use crate::shape::{List, Object};

#[derive(Debug, Deserialize)]
pub(super) struct MessageFields {
    role: Option<Text>,
    content: Option<Content>,
    thinking: Option<Text>,
    /// In the form for the chat template.
    tool_calls: Option<List<Value>>,
    tool_call_id: Option<Text>,
    tool_name: Option<Text>,
    /// The older name.
    name: Option<Text>,
    images: Option<Value>,
}

/// The conversation.
pub(super) fn messages(list: Vec<Object<MessageFields>>) -> Result<Vec<Message>, Failure> {
    let mut calls = Calls::default();
    let message = |(n, message): (usize, Object<MessageFields>)| {
        message
            .0
            .into_message(&format!("messages[{n}]"), &mut calls)
    };
    let list: Vec<Message> = list
        .into_iter()
        .enumerate()
        .map(message)
        .collect::<Result<_, _>>()?;
    check_media(list.iter().flat_map(|message| &message.media))?;
    Ok(list)
}

impl MessageFields {
    fn into_message(self, place: &str, calls: &mut Calls) -> Result<Message, Failure> {
        let Some(Text(name)) = self.role.filter(|role| !role.0.is_empty()) else {
            return Err(Failure::invalid_field(place, "needs a `role`"));
        };
        let role = role(name, place)?;
        let mut media = images(&format!("{place}.images"), self.images.as_ref())?;
        let content = self.content.map(|content| content.into_text(place));
        let (content, more) = content.transpose()?.unwrap_or_default();
        media.extend(more);
        let asked = self.tool_calls.unwrap_or_default().0;
        let mut message = Message {
            role: role.to_lowercase(),
            content,
            media,
            reasoning_content: self.thinking.map(Into::into).unwrap_or_default(),
            tool_calls: asked.into_iter().map(|call| calls.asked(call)).collect(),
            tool_call_id: self.tool_call_id.map(Into::into),
            name: self.tool_name.or(self.name).map(Into::into),
        };
        if message.role == "tool" {
            calls.answered(&mut message);
        }
        Ok(message)
    }
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
    fn asked(&mut self, call: Value) -> Value {
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

/// A field that is not supported; `what` follows its name and a colon.
pub(super) fn unsupported(field: &str, what: &str) -> Failure {
    Failure::new(FailureKind::NotSupported, format!("`{field}`: {what}")).about(field)
}
