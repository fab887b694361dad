//! The chat layer with the templates of real models: those that llama.cpp's own tests use,
//! which tests/llama-cpp/run.sh fetches.

mod families;
mod kept;
mod reading;
mod rendering;

use std::path::{Path, PathBuf};

use hearth_proto::{AnswerPart, GenerateRequest, Message, Thinking, ToolCall};
use serde_json::{Value, json};

use super::{ChatFormat, ChatLayer, ChatPrompt};

/// 2026-01-31, noon in UTC.
const NOON_UNIX_S: i64 = 1_769_860_800;

/// A parsed answer.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
}

impl Seen {
    fn of(parts: Vec<AnswerPart>) -> Self {
        let mut seen = Self::default();
        for part in parts {
            match part {
                AnswerPart::Content(text) => seen.content.push_str(&text),
                AnswerPart::Reasoning(text) => seen.reasoning.push_str(&text),
                AnswerPart::ToolCall(call) => seen.calls.push(call),
            }
        }
        seen
    }
}

fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    target.join("llama-cpp-tests/package/vendor/llama.cpp/models/templates")
}

/// The layer of a family; `None` where the templates were not fetched.
fn family(name: &str) -> Option<ChatLayer> {
    let source = std::fs::read_to_string(folder().join(format!("{name}.jinja")));
    let Ok(source) = source else {
        assert!(
            !folder().exists(),
            "{name} is not among the templates in {}",
            folder().display()
        );
        println!("NOT CHECKED: {name}: run tests/llama-cpp/run.sh --fetch first");
        return None;
    };
    Some(layer(&source).unwrap())
}

fn layer(source: &str) -> Result<ChatLayer, hearth_proto::Failure> {
    ChatLayer::new(&ChatFormat {
        template: Some(source.to_owned()),
        bos: "<s>".into(),
        eos: "</s>".into(),
        ..ChatFormat::default()
    })
}

fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value, required: &[&str]| {
        json!({"type": "function", "function": {"name": name, "description": "Does it.",
            "parameters": {"type": "object", "properties": properties, "required": required}}})
    };
    vec![
        tool("turn_on", json!({"name": {"type": "string"}}), &["name"]),
        tool("get_time", json!({}), &[]),
    ]
}

fn request(thinking: bool) -> GenerateRequest {
    GenerateRequest {
        thinking: Some(if thinking {
            Thinking::On
        } else {
            Thinking::Off
        }),
        accepted_unix_s: NOON_UNIX_S,
        ..GenerateRequest::default()
    }
}

fn question() -> Vec<Message> {
    vec![
        Message {
            role: "system".into(),
            content: "Be brief.".into(),
            ..Message::default()
        },
        Message::user("Turn on the lamp."),
    ]
}

fn prompt(layer: &ChatLayer, thinking: bool) -> ChatPrompt {
    layer
        .render(&request(thinking), &question(), &tools())
        .unwrap()
}
