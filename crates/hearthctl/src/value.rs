//! Conversion of bus values to JSON and to table cells.
//!
//! Dictionaries may grow: unknown entries are passed on in JSON and left out of tables;
//! missing entries are shown as empty.

use serde_json::{Map, Value};
use zbus::Variant;

use crate::bus::Dict;

/// The whole dictionary as a JSON object; `ActiveThreads` becomes `active_threads`, so
/// that properties and dictionaries have the same form.
pub fn dict_to_json(dict: &Dict) -> Value {
    dict.iter()
        .map(|(key, value)| (snake_case(key), to_json(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// A string entry; empty if missing.
pub fn text<'a>(dict: &'a Dict, key: &str) -> &'a str {
    match dict.get(key).map(|v| unwrapped(v)) {
        Some(Variant::Str(s)) => s.as_str(),
        _ => "",
    }
}

/// An unsigned entry of any width; 0 if missing.
pub fn number(dict: &Dict, key: &str) -> u64 {
    match dict.get(key).map(|v| unwrapped(v)) {
        Some(Variant::U64(n)) => *n,
        Some(Variant::U32(n)) => u64::from(*n),
        _ => 0,
    }
}

/// A floating-point entry; 0 if missing.
pub fn float(dict: &Dict, key: &str) -> f64 {
    match dict.get(key).map(|v| unwrapped(v)) {
        Some(Variant::F64(x)) => *x,
        _ => 0.0,
    }
}

/// A boolean entry; false if missing.
pub fn flag(dict: &Dict, key: &str) -> bool {
    matches!(
        dict.get(key).map(|v| unwrapped(v)),
        Some(Variant::Bool(true))
    )
}

/// An entry that is a list of strings; empty if missing.
pub fn texts<'a>(dict: &'a Dict, key: &str) -> Vec<&'a str> {
    match dict.get(key).map(|v| unwrapped(v)) {
        Some(Variant::Array(items)) => items
            .inner()
            .iter()
            .filter_map(|item| match item {
                Variant::Str(s) => Some(s.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Unwraps nested variants.
fn unwrapped<'a>(value: &'a Variant<'a>) -> &'a Variant<'a> {
    match value {
        Variant::Variant(inner) => unwrapped(inner),
        other => other,
    }
}

fn to_json(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(n) => (*n).into(),
        Variant::Bool(b) => (*b).into(),
        Variant::I16(n) => (*n).into(),
        Variant::U16(n) => (*n).into(),
        Variant::I32(n) => (*n).into(),
        Variant::U32(n) => (*n).into(),
        Variant::I64(n) => (*n).into(),
        Variant::U64(n) => (*n).into(),
        Variant::F64(x) => (*x).into(),
        Variant::Str(s) => s.as_str().into(),
        Variant::Signature(s) => s.to_string().into(),
        Variant::ObjectPath(p) => p.as_str().into(),
        Variant::Variant(inner) => to_json(inner),
        Variant::Array(items) => items.inner().iter().map(to_json).collect(),
        Variant::Structure(s) => s.fields().iter().map(to_json).collect(),
        Variant::Dict(entries) => entries
            .iter()
            .map(|(key, value)| match to_json(key) {
                Value::String(key) => (key, to_json(value)),
                other => (other.to_string(), to_json(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        // A file descriptor has no meaning outside this process.
        Variant::Fd(_) => Value::Null,
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::OwnedVariant;

    fn dict(entries: Vec<(&str, Variant<'_>)>) -> Dict {
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap()))
            .collect()
    }

    #[test]
    fn properties_become_json() {
        let dict = dict(vec![
            ("ActiveThreads", Variant::from(3u32)),
            ("Features", Variant::from(vec!["chat", "stream"])),
            ("TemperatureCelsius", Variant::from(48.5)),
        ]);
        assert_eq!(
            dict_to_json(&dict).to_string(),
            r#"{"active_threads":3,"features":["chat","stream"],"temperature_celsius":48.5}"#
        );
    }

    #[test]
    fn what_is_missing_or_of_another_type_shows_as_nothing() {
        let dict = dict(vec![("a", Variant::from("x")), ("b", Variant::from(7u32))]);
        assert_eq!(text(&dict, "a"), "x");
        assert_eq!(number(&dict, "b"), 7);
        assert_eq!(text(&dict, "b"), "");
        assert_eq!(number(&dict, "a"), 0);
        assert!(!flag(&dict, "nothing"));
        assert!(texts(&dict, "nothing").is_empty());
    }
}
