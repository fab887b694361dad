//! `system` and `messages` as the messages of a chat.

use hearth_proto::{Failure, Message, check_media};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::blocks::{Called, Parts};
use super::rich::Content;
use crate::read::{quote, read};
use crate::scalars::Text;
use crate::shape::{List, Object};

#[derive(Debug, Deserialize)]
struct ConversationFields {
    system: Option<Content>,
    messages: Option<List<Object<MessageFields>>>,
}

#[derive(Debug, Deserialize)]
struct MessageFields {
    role: Option<Text>,
    content: Option<Content>,
}

/// A conversation for the chat template.
#[derive(Debug)]
pub(super) struct Conversation {
    pub messages: Vec<Message>,
    /// Whether the model continues the last message.
    pub continues: bool,
}

/// What a system prompt of Claude Code begins with.
const BILLING: &str = "x-anthropic-billing-header:";

/// The conversation of a request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub(super) fn conversation(body: &Map<String, Value>) -> Result<Conversation, Failure> {
    let fields: ConversationFields = read(body)?;
    let List(list) = fields.messages.unwrap_or_default();
    if list.is_empty() {
        return Err(Failure::invalid_field(
            "messages",
            "must be a list of at least one message",
        ));
    }
    let mut messages = Vec::new();
    if let Some(system) = fields.system {
        let system = system_text(system)?;
        add(&mut messages, message("system", system));
    }
    let mut called = Called::new();
    for (n, Object(fields)) in list.into_iter().enumerate() {
        let place = format!("messages[{n}]");
        let Some(Text(role)) = fields.role else {
            return Err(Failure::invalid_field(&place, "needs a `role`"));
        };
        let Some(content) = fields.content else {
            return Err(Failure::invalid_field(&place, "needs a `content`"));
        };
        let parts = content.into_parts(&format!("{place}.content"), &mut called)?;
        add_turn(&mut messages, &place, &role, parts)?;
    }
    check_media(messages.iter().flat_map(|message| &message.media))?;
    let is_begun = |last: &Message| {
        last.role == "assistant" && last.tool_calls.is_empty() && !last.content.is_empty()
    };
    Ok(Conversation {
        continues: messages.last().is_some_and(is_begun),
        messages,
    })
}

/// The system prompt, without what changes from request to request: it would make every
/// cached prompt useless.
fn system_text(system: Content) -> Result<String, Failure> {
    let blocks = match system {
        Content::Text(text) => return Ok(without_billing(&text).to_owned()),
        Content::Blocks(blocks) => blocks,
    };
    let mut texts = Vec::new();
    for (n, block) in blocks.into_iter().enumerate() {
        let place = format!("system[{n}]");
        if block.get("type").and_then(Value::as_str) != Some("text") {
            return Err(Failure::invalid_field(&place, "must be of type \"text\""));
        }
        let text = block.get("text").and_then(Value::as_str);
        let missing = || Failure::invalid_field(&place, "needs a `text`");
        let text = without_billing(text.ok_or_else(missing)?);
        if !text.is_empty() {
            texts.push(text.to_owned());
        }
    }
    Ok(texts.join("\n"))
}

/// A text without the fields (`name=value;`) at its beginning with which Claude Code marks
/// its requests, one of which is another one each time.
fn without_billing(text: &str) -> &str {
    let Some(mut rest) = text.strip_prefix(BILLING) else {
        return text;
    };
    loop {
        let field = rest.trim_start();
        match field.split_once(';') {
            Some((pair, after)) if pair.contains('=') && !pair.contains(char::is_whitespace) => {
                rest = after;
            }
            _ => return field,
        }
    }
}

/// Adds a message with these parts.
fn add_turn(
    messages: &mut Vec<Message>,
    place: &str,
    role: &str,
    parts: Parts,
) -> Result<(), Failure> {
    let is_first = messages.iter().all(|message| message.role == "system");
    let role = match role {
        "assistant" | "user" => role,
        "system" if is_first => role,
        // Most templates allow a system prompt at the beginning only.
        "system" => "user",
        other => {
            return Err(Failure::invalid_field(
                &format!("{place}.role"),
                format_args!(
                    "is {}: it must be \"user\", \"assistant\" or \"system\"",
                    quote(other)
                ),
            ));
        }
    };
    let has_results = !parts.results.is_empty();
    // Templates expect the results directly after the calls, and so does Anthropic's API.
    messages.extend(parts.results);
    let message = Message {
        media: parts.rich.media,
        reasoning_content: parts.reasoning,
        tool_calls: parts.calls,
        ..message(role, parts.rich.text)
    };
    let is_empty = message.content.is_empty()
        && message.media.is_empty()
        && message.reasoning_content.is_empty()
        && message.tool_calls.is_empty();
    if !is_empty || role == "user" && !has_results {
        add(messages, message);
    }
    Ok(())
}

fn message(role: &str, content: String) -> Message {
    Message {
        role: role.into(),
        content,
        ..Message::default()
    }
}

/// Adds a message. Of the same role as the one before it, it is part of the same turn:
/// templates may expect the roles to alternate.
fn add(messages: &mut Vec<Message>, mut next: Message) {
    let last = match messages.last_mut() {
        Some(last) if last.role == next.role => last,
        _ => return messages.push(next),
    };
    if !last.content.is_empty() && !next.content.is_empty() {
        last.content += "\n\n";
    }
    for media in &mut next.media {
        media.at += last.content.len();
    }
    last.content += &next.content;
    last.media.append(&mut next.media);
    last.reasoning_content += &next.reasoning_content;
    last.tool_calls.append(&mut next.tool_calls);
}

#[cfg(test)]
mod tests;
