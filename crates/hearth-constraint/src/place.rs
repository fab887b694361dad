//! Finds where in a schema an error of the compiler comes from, which the error does not
//! state.

use serde_json::{Map, Value};

use super::bounds::{Walk, escaped};
use super::error::first_line;
use super::schema::from_schema;
use super::vocabulary::Vocabulary;

/// Parts of a schema that are compiled separately to find the wrong one; most take about a
/// millisecond.
const MAX_TRIALS: usize = 100;

/// The JSON pointer of the part that `message` is about; `None` if it cannot be narrowed to
/// less than the whole schema.
pub(super) fn of(vocabulary: &Vocabulary, schema: &Value, message: &str) -> Option<String> {
    let mut pointer = String::new();
    let mut part = schema;
    let mut trials = MAX_TRIALS;
    while let Some((step, child)) = parts(part).into_iter().find(|(_, child)| {
        trials = trials.saturating_sub(1);
        trials > 0 && complains(vocabulary, schema, child, message)
    }) {
        pointer.push_str(&step);
        part = child;
    }
    if let Some(rest) = named(part, message) {
        pointer.push_str(&rest);
    }
    Some(pointer).filter(|pointer| !pointer.is_empty())
}

/// Whether the part alone gives the same message.
fn complains(vocabulary: &Vocabulary, schema: &Value, part: &Value, message: &str) -> bool {
    let Value::Object(part) = part else {
        return false;
    };
    let mut alone: Map<String, Value> = part.clone();
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = schema.get(key) {
            alone.insert(key.to_owned(), definitions.clone());
        }
    }
    from_schema(&Value::Object(alone), false)
        .ok()
        .and_then(|grammar| vocabulary.complaint(grammar))
        .is_some_and(|complaint| first_line(&complaint) == message)
}

/// The schemas directly inside a schema.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("$defs" | "definitions" | "properties" | "patternProperties", Value::Object(map)) => {
                let step = |name: &String| format!("/{key}/{}", escaped(name));
                parts.extend(map.iter().map(|(name, value)| (step(name), value)));
            }
            ("prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                let steps = list.iter().enumerate();
                parts.extend(steps.map(|(n, value)| (format!("/{key}/{n}"), value)));
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                parts.push((format!("/{key}"), value));
            }
            _ => {}
        }
    }
    parts
}

/// The position of what an error of the compiler names in quotes: an unknown keyword,
/// format, type or reference.
fn named(schema: &Value, message: &str) -> Option<String> {
    let quoted = message.split(['"', '\'']).rev().nth(1);
    let last = message.rsplit_once(": ").map(|(_, name)| name.trim());
    let mut walk = Walk::new(schema);
    while let Some((value, node)) = walk.next() {
        let Value::Object(map) = value else { continue };
        for (key, value) in map {
            let is_key = quoted == Some(key);
            let is_value = ["format", "type", "$ref", "pattern"].contains(&key.as_str())
                && value.is_string()
                && [quoted, last].contains(&value.as_str());
            if is_key || is_value {
                return Some(format!("{}/{}", walk.pointer(node), escaped(key)));
            }
        }
    }
    None
}
