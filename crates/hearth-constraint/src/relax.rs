//! Schemas as clients write them, without what cannot be guaranteed: unless a client asks for
//! `strict`, a keyword that no grammar expresses must not cost it the whole request.

use llguidance::regex_to_lark;
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use serde_json::{Map, Value, json};

use super::bounds::escaped;

/// Keywords that are left out, whatever their value.
const UNGUARANTEED: [&str; 16] = [
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
];
/// The formats whose form the compiler knows.
const FORMATS: [&str; 11] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
    "unknown",
];
/// Keywords whose value is a schema.
const SCHEMA: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 5] = ["prefixItems", "items", "anyOf", "oneOf", "allOf"];
/// Keywords whose value maps names to schemas.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// Who translates a schema to a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compiler {
    /// llguidance.
    Guidance,
    /// llama.cpp's chat layer, for the arguments of calls.
    ChatLayer,
}

/// A schema within the bounds, without what cannot be guaranteed, and the places of what was
/// left out.
pub(super) fn relaxed(schema: &Value, compiler: Compiler) -> (Value, Vec<String>) {
    let mut schema = schema.clone();
    let mut omitted = Vec::new();
    relax(&mut schema, "", compiler, &mut omitted);
    (schema, omitted)
}

fn relax(schema: &mut Value, place: &str, compiler: Compiler, omitted: &mut Vec<String>) {
    let Value::Object(map) = schema else { return };
    names_as_properties(map, compiler);
    for key in UNGUARANTEED {
        if map.remove(key).is_some_and(|value| restricts(key, &value)) {
            omitted.push(format!("{place}/{key}"));
        }
    }
    let is_unknown = |key: &str, value: &Value| {
        let text = value.as_str();
        match key {
            "format" => text.is_some_and(|format| !FORMATS.contains(&format)),
            "pattern" => text.is_some_and(|pattern| !is_kept(pattern, compiler)),
            "$ref" => text.is_some_and(|target| !target.starts_with('#')),
            _ => false,
        }
    };
    for key in ["format", "pattern", "$ref"] {
        if map.get(key).is_some_and(|value| is_unknown(key, value)) {
            map.remove(key);
            omitted.push(format!("{place}/{key}"));
        }
    }
    pattern_properties(map, place, compiler, omitted);
    if counts_optional(map) {
        omitted.extend(
            ["minProperties", "maxProperties"]
                .iter()
                .filter(|key| map.contains_key(**key))
                .map(|key| format!("{place}/{key}")),
        );
    }
    if map.get("oneOf").is_some_and(may_overlap) {
        omitted.push(format!("{place}/oneOf"));
    }
    for (key, value) in map.iter_mut() {
        let key = key.as_str();
        match value {
            Value::Array(list) if LISTS.contains(&key) => {
                for (n, child) in list.iter_mut().enumerate() {
                    relax(child, &format!("{place}/{key}/{n}"), compiler, omitted);
                }
            }
            Value::Object(named) if MAPS.contains(&key) => {
                for (name, child) in named.iter_mut() {
                    let place = format!("{place}/{key}/{}", escaped(name));
                    relax(child, &place, compiler, omitted);
                }
            }
            Value::Object(_) if SCHEMA.contains(&key) => {
                relax(value, &format!("{place}/{key}"), compiler, omitted);
            }
            _ => {}
        }
    }
}

/// Whether leaving out a keyword with this value allows more.
fn restricts(key: &str, value: &Value) -> bool {
    match key {
        "uniqueItems" => *value == Value::Bool(true),
        "propertyNames" => {
            let any_name = [json!(true), json!({}), json!({"type": "string"})];
            !any_name.contains(value)
        }
        "unevaluatedItems" | "unevaluatedProperties" => {
            *value != Value::Bool(true) && *value != json!({})
        }
        // They have no effect without `if` and `contains`, which are named.
        "then" | "else" | "minContains" | "maxContains" => false,
        _ => true,
    }
}

/// Names of properties that are listed or have a pattern, as zod writes records, are expressed
/// by the properties themselves.
fn names_as_properties(map: &mut Map<String, Value>, compiler: Compiler) {
    if map.contains_key("properties") || map.contains_key("patternProperties") {
        return;
    }
    let values = match map.get("additionalProperties") {
        None | Some(Value::Bool(true)) => json!({}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return,
    };
    let Some(Value::Object(names)) = map.get("propertyNames") else {
        return;
    };
    let only = |keys: &[&str]| names.keys().all(|key| keys.contains(&key.as_str()));
    let listed = names.get("enum").and_then(Value::as_array);
    let pattern = names.get("pattern").and_then(Value::as_str);
    let (key, entries): (_, Map<String, Value>) = match (listed, pattern) {
        (Some(listed), None) if only(&["type", "enum"]) => {
            let names = listed.iter().filter_map(Value::as_str);
            let entries = names.map(|name| (name.to_owned(), values.clone()));
            ("properties", entries.collect())
        }
        (None, Some(pattern)) if only(&["type", "pattern"]) && is_kept(pattern, compiler) => {
            let entry = (pattern.to_owned(), values);
            ("patternProperties", [entry].into_iter().collect())
        }
        _ => return,
    };
    map.remove("propertyNames");
    map.insert(key.into(), entries.into());
    map.insert("additionalProperties".into(), false.into());
}

/// Leaves out the patterns that are not regular. Their properties are then free, since they
/// must be possible.
fn pattern_properties(
    map: &mut Map<String, Value>,
    place: &str,
    compiler: Compiler,
    omitted: &mut Vec<String>,
) {
    let Some(Value::Object(patterns)) = map.get_mut("patternProperties") else {
        return;
    };
    let before = patterns.len();
    patterns.retain(|pattern, _| {
        let keeps = is_kept(pattern, compiler);
        if !keeps {
            omitted.push(format!("{place}/patternProperties/{}", escaped(pattern)));
        }
        keeps
    });
    if patterns.len() < before {
        map.insert("additionalProperties".into(), true.into());
    }
}

/// Whether the number of properties is bounded and some of them are optional, except where one
/// of those named is enough.
fn counts_optional(map: &Map<String, Value>) -> bool {
    let is_closed = map.get("additionalProperties") == Some(&Value::Bool(false));
    let one = map.get("minProperties").and_then(Value::as_u64) == Some(1);
    if is_closed && one && !map.contains_key("maxProperties") {
        return false;
    }
    let Some(Value::Object(named)) = map.get("properties") else {
        return false;
    };
    let required = map.get("required").and_then(Value::as_array);
    let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|r| r == name));
    !named.keys().all(is_required)
}

/// Whether two alternatives may both hold: not if their types differ, or the constants of a
/// property that all require.
fn may_overlap(alternatives: &Value) -> bool {
    let Some(list) = alternatives.as_array() else {
        return false;
    };
    let distinct = |marks: Vec<Option<&Value>>| {
        let given: Vec<&Value> = marks.iter().copied().flatten().collect();
        let differ = (1..given.len()).all(|n| !given[..n].contains(&given[n]));
        given.len() == list.len() && differ
    };
    let types = list.iter().map(|schema| schema.get("type"));
    let is_number = |kind: &Value| *kind == "integer" || *kind == "number";
    let numbers = types
        .clone()
        .flatten()
        .filter(|kind| is_number(kind))
        .count();
    if numbers < 2 && distinct(types.map(|kind| kind.filter(|k| k.is_string())).collect()) {
        return false;
    }
    if distinct(list.iter().map(|schema| schema.get("const")).collect()) {
        return false;
    }
    let first = list.first().and_then(|schema| schema.get("properties"));
    let names = first.and_then(Value::as_object).into_iter().flatten();
    let constant = |schema: &'_ Value, name: &str| {
        let required = schema.get("required").and_then(Value::as_array)?;
        let property = schema.get("properties")?.get(name)?;
        let constant = property
            .get("const")
            .or_else(|| match property.get("enum") {
                Some(Value::Array(one)) if one.len() == 1 => one.first(),
                _ => None,
            });
        constant
            .filter(|_| required.iter().any(|r| r == name))
            .cloned()
    };
    !names.into_iter().any(|(name, _)| {
        let marks: Vec<Option<Value>> = list.iter().map(|s| constant(s, name)).collect();
        distinct(marks.iter().map(Option::as_ref).collect())
    })
}

/// Whether the compiler can express a pattern: look-around and references to groups are not
/// regular. In time linear in the pattern.
fn is_kept(pattern: &str, compiler: Compiler) -> bool {
    let Ok(hir) = regex_syntax::parse(&regex_to_lark(pattern, "dw")) else {
        return false;
    };
    match compiler {
        Compiler::Guidance => anchors_are_outside(&hir, true, true),
        // It takes no other patterns, and writes what they match without JSON's escapes.
        Compiler::ChatLayer => {
            let simple = pattern.strip_prefix('^').and_then(|p| p.strip_suffix('$'));
            let has_flags = pattern.replace("(?:", "").contains("(?");
            let has_classes = ["\\p", "\\P", "\\b"].iter().any(|c| pattern.contains(c));
            simple.is_some()
                && !has_flags
                && !has_classes
                && anchors_are_outside(&hir, true, true)
                && needs_no_escape(&hir)
        }
    }
}

/// Whether nothing that it matches is escaped in a JSON string.
fn needs_no_escape(hir: &Hir) -> bool {
    let is_plain = |from: u32, to: u32| {
        let range = from..=to;
        from >= 0x20 && !['"', '\\'].iter().any(|c| range.contains(&u32::from(*c)))
    };
    match hir.kind() {
        HirKind::Literal(text) => text.0.iter().all(|b| is_plain((*b).into(), (*b).into())),
        HirKind::Class(Class::Unicode(class)) => class
            .iter()
            .all(|range| is_plain(range.start().into(), range.end().into())),
        HirKind::Class(Class::Bytes(_)) => false,
        HirKind::Capture(group) => needs_no_escape(&group.sub),
        HirKind::Repetition(repeated) => needs_no_escape(&repeated.sub),
        HirKind::Alternation(list) | HirKind::Concat(list) => list.iter().all(needs_no_escape),
        HirKind::Empty | HirKind::Look(_) => true,
    }
}

/// Whether `^` and `$` are only where the text begins and ends, and there are no other
/// assertions. The parser bounds the depth.
fn anchors_are_outside(hir: &Hir, at_start: bool, at_end: bool) -> bool {
    match hir.kind() {
        HirKind::Look(Look::Start) => at_start,
        HirKind::Look(Look::End) => at_end,
        HirKind::Look(_) => false,
        HirKind::Capture(group) => anchors_are_outside(&group.sub, at_start, at_end),
        HirKind::Repetition(repeated) => anchors_are_outside(&repeated.sub, false, false),
        HirKind::Alternation(list) => list
            .iter()
            .all(|sub| anchors_are_outside(sub, at_start, at_end)),
        HirKind::Concat(list) => list.iter().enumerate().all(|(n, sub)| {
            let is_last = n + 1 == list.len();
            anchors_are_outside(sub, at_start && n == 0, at_end && is_last)
        }),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => true,
    }
}
