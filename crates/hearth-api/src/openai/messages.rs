//! The messages of a chat.

use hearth_proto::{Failure, Message, check_media};
use serde::Deserialize;
use serde_json::Value;

use crate::content::{Content, role, tool_call};
use crate::read::read_value;
use crate::scalars::Text;
use crate::shape::{List, Object};

#[derive(Debug, Deserialize)]
pub(super) struct MessageFields {
    role: Option<Text>,
    content: Option<Content>,
    /// In the form for the chat template.
    tool_calls: Option<Value>,
    /// The reasoning of an assistant's message: `DeepSeek`'s name for it.
    reasoning_content: Option<Text>,
    /// `OpenRouter`'s name for it.
    reasoning: Option<Text>,
    tool_call_id: Option<Text>,
    name: Option<Text>,
}

/// A conversation.
pub(super) type Messages = List<Object<MessageFields>>;

/// Reads a list of messages.
///
/// # Errors
/// `InvalidArgs` where the text is no such list.
pub fn decode_messages(text: &str) -> Result<Vec<Message>, Failure> {
    let list: Value = serde_json::from_str(text).map_err(|error| {
        Failure::invalid_field("messages", format_args!("is not valid JSON: {error}"))
    })?;
    messages(read_value("messages", &list)?)
}

/// The conversation, as the template expects it.
pub(super) fn messages(List(list): Messages) -> Result<Vec<Message>, Failure> {
    let message = |(n, message): (usize, Object<MessageFields>)| {
        message.0.into_message(&format!("messages[{n}]"))
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
    fn into_message(self, place: &str) -> Result<Message, Failure> {
        let Some(Text(name)) = self.role else {
            return Err(Failure::invalid_field(place, "needs a `role`"));
        };
        let content = self.content.map(|content| content.into_text(place));
        let (content, media) = content.transpose()?.unwrap_or_default();
        let reasoning = self.reasoning_content.or(self.reasoning);
        Ok(Message {
            role: role(name, place)?,
            content,
            media,
            tool_calls: match self.tool_calls {
                Some(Value::Array(calls)) => calls.into_iter().map(tool_call).collect(),
                _ => Vec::new(),
            },
            reasoning_content: reasoning.map(Into::into).unwrap_or_default(),
            tool_call_id: self.tool_call_id.map(Into::into),
            name: self.name.map(Into::into),
        })
    }
}
