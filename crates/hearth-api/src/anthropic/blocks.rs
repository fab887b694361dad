//! The blocks that a message's content consists of.

use std::collections::BTreeMap;

use hearth_proto::{Failure, Message};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::rich::{Block, Content, Rich, is_skipped, kind, needed, unsupported};
use crate::read::{join, read_in};
use crate::scalars::{Flag, Text};
use crate::shape::Object;

/// The content of a message, by the kinds of its blocks.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub rich: Rich,
    pub reasoning: String,
    /// In the form for the chat template.
    pub calls: Vec<Value>,
    /// The results of earlier calls.
    pub results: Vec<Message>,
}

/// The names of the tools that were called, by the ids of the calls.
pub(super) type Called = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
struct ThinkingBlock {
    thinking: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct ToolUse {
    id: Option<Text>,
    name: Option<Text>,
    input: Option<Object<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
struct ToolResult {
    tool_use_id: Option<Text>,
    content: Option<Content>,
    is_error: Option<Flag>,
}

impl Content {
    /// The content of a message at this place in the request.
    pub(super) fn into_parts(self, place: &str, called: &mut Called) -> Result<Parts, Failure> {
        let mut parts = Parts::default();
        match self {
            Self::Text(text) => parts.rich.text = text,
            Self::Blocks(blocks) => {
                for (n, block) in blocks.iter().enumerate() {
                    parts.add(&format!("{place}[{n}]"), block, called)?;
                }
            }
        }
        Ok(parts)
    }
}

impl Parts {
    fn add(&mut self, place: &str, block: &Block, called: &mut Called) -> Result<(), Failure> {
        match kind(place, block)? {
            "thinking" => {
                let block: ThinkingBlock = read_in(place, block)?;
                self.reasoning += &needed(block.thinking, place, "thinking")?;
            }
            "tool_use" => {
                let call: ToolUse = read_in(place, block)?;
                let id = needed(call.id, place, "id")?;
                let name = needed(call.name, place, "name")?;
                called.insert(id.clone(), name.clone());
                self.calls.push(json!({
                    "id": id, "type": "function",
                    "function": {"name": name, "arguments": call.input.unwrap_or_default().0},
                }));
            }
            "tool_result" => self.results.push(result(place, block, called)?),
            kind => {
                if !self.rich.add(place, kind, block)? && !is_skipped(kind) {
                    return Err(unsupported(place, kind));
                }
            }
        }
        Ok(())
    }
}

/// The result of a call, as a message of its own.
fn result(place: &str, block: &Block, called: &Called) -> Result<Message, Failure> {
    let result: ToolResult = read_in(place, block)?;
    let id = needed(result.tool_use_id, place, "tool_use_id")?;
    let content = result.content.unwrap_or(Content::Text(String::new()));
    let Rich {
        mut text,
        mut media,
    } = content.into_rich(&join(place, "content"))?;
    // Templates have no mark for a call that failed.
    let says_so = text
        .get(..ERROR.len())
        .is_some_and(|t| t.eq_ignore_ascii_case(ERROR));
    if result.is_error.is_some_and(Into::into) && !says_so {
        text.insert_str(0, ": ");
        text.insert_str(0, ERROR);
        for media in &mut media {
            media.at += ERROR.len() + 2;
        }
    }
    Ok(Message {
        role: "tool".into(),
        content: text,
        media,
        name: called.get(&id).cloned(),
        tool_call_id: Some(id),
        ..Message::default()
    })
}

/// What the result of a failed call begins with.
const ERROR: &str = "Error";
