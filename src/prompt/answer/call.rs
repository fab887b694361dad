//! JSON values that may be tool calls.

use serde_json::{Map, Value};

/// Keys that a call's object may begin with.
const FIRST_KEYS: [&str; 6] = ["name", "arguments", "parameters", "type", "function", "id"];

/// One call the model asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// The calls that a text consists of: an object, or a list of them. `strict` wants
/// arguments: without a marker around it, an object with a name is no call yet.
pub(super) fn parse(text: &str, strict: bool) -> Option<Vec<ToolCall>> {
    match serde_json::from_str(text).ok()? {
        Value::Object(call) => Some(vec![from_object(call, strict)?]),
        Value::Array(list) if !list.is_empty() => list
            .into_iter()
            .map(|item| match item {
                Value::Object(call) => from_object(call, strict),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// A call whose name stood in front of its arguments.
pub(super) fn with_name(name: &str, text: &str) -> Option<Vec<ToolCall>> {
    let arguments: Value = serde_json::from_str(text).ok()?;
    let name = name.to_owned();
    arguments
        .is_object()
        .then(|| vec![ToolCall { name, arguments }])
}

fn from_object(mut call: Map<String, Value>, strict: bool) -> Option<ToolCall> {
    // OpenAI's own form, which some models have seen more of than of theirs.
    if let Some(Value::Object(inner)) = call.get("function") {
        call = inner.clone();
    }
    let Some(Value::String(name)) = call.remove("name") else {
        return None;
    };
    let arguments = match call
        .remove("arguments")
        .or_else(|| call.remove("parameters"))
    {
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(arguments) => arguments,
        None if strict => return None,
        None => Value::Object(Map::new()),
    };
    arguments
        .is_object()
        .then_some(ToolCall { name, arguments })
}

/// Whether a text that begins with `{` or `[` can still become a call.
pub(super) fn is_plausible(text: &str) -> bool {
    let mut rest = text;
    if let Some(list) = rest.strip_prefix('[') {
        rest = list.trim_start();
        if rest.is_empty() {
            return true;
        }
    }
    let Some(object) = rest.strip_prefix('{') else {
        return false;
    };
    let object = object.trim_start();
    if object.is_empty() {
        return true;
    }
    let Some(key) = object.strip_prefix('"') else {
        return false;
    };
    match key.split_once('"') {
        Some((key, _)) => FIRST_KEYS.contains(&key),
        None => FIRST_KEYS.iter().any(|first| first.starts_with(key)),
    }
}

/// Finds the end of an object or list without reading anything twice.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueEnd {
    /// Bytes looked at.
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ValueEnd {
    /// A value that begins at byte `at`.
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Looks at what has come since; the offset behind the value's last byte once it
    /// is there.
    pub(super) fn find(&mut self, text: &str) -> Option<usize> {
        // All that counts is ASCII, which is never part of another character.
        for byte in text.bytes().skip(self.at) {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
