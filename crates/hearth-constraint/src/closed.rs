//! Objects of a schema accept only the properties that they name, unless the schema says
//! otherwise: as in `OpenAI`'s strict mode and in llama.cpp, but not in JSON Schema.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Keywords whose value is a schema.
const SCHEMA: [&str; 5] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "unevaluatedItems",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["prefixItems", "items", "anyOf", "oneOf"];
/// Keywords whose value maps names to schemas.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that apply another schema to the same object: if closed, each of them would
/// forbid what the other one names.
const JOINS: [&str; 10] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "dependentSchemas",
    "unevaluatedProperties",
];

/// The schema with `additionalProperties: false` in every object that names properties and
/// does not mention others. Schemas joined with another one of the same object (`allOf`, or
/// properties beside `anyOf` or `$ref`) stay open, and so do those that require a property
/// that they do not name.
pub(super) fn closed(schema: &Value) -> Value {
    let mut joined = HashSet::new();
    find_joined(schema, false, &mut joined);
    let mut schema = schema.clone();
    close(&mut schema, "#", false, &joined);
    schema
}

/// Whether another schema applies to the same object.
fn joins(map: &Map<String, Value>) -> bool {
    JOINS.iter().any(|key| map.contains_key(*key))
}

/// Whether the schemas in its `anyOf` and `oneOf` apply to an object that this one
/// describes, too.
fn adds_to_choices(map: &Map<String, Value>) -> bool {
    ["properties", "patternProperties", "allOf", "$ref"]
        .iter()
        .any(|key| map.contains_key(*key))
}

/// Collects the targets of references that are joined with other schemas.
fn find_joined<'a>(schema: &'a Value, is_joined: bool, found: &mut HashSet<&'a str>) {
    let Value::Object(map) = schema else { return };
    if let Some(target) = map.get("$ref").and_then(Value::as_str)
        && (is_joined || adds_to_choices_besides_ref(map))
    {
        found.insert(target);
    }
    for (child, child_is_joined) in children(map, is_joined) {
        find_joined(child, child_is_joined, found);
    }
}

fn adds_to_choices_besides_ref(map: &Map<String, Value>) -> bool {
    ["properties", "patternProperties", "allOf", "anyOf", "oneOf"]
        .iter()
        .any(|key| map.contains_key(*key))
}

/// The schemas inside one, and whether each is joined with another.
fn children(map: &Map<String, Value>, is_joined: bool) -> Vec<(&Value, bool)> {
    let mut all = Vec::new();
    let choices_are = is_joined || adds_to_choices(map);
    for (key, value) in map {
        let key = key.as_str();
        match value {
            Value::Array(list) if key == "allOf" => {
                // A single schema is joined only with the keywords beside it.
                let with_others = list.len() > 1 || choices_are_beside(map);
                all.extend(list.iter().map(|child| (child, is_joined || with_others)));
            }
            Value::Array(list) if LISTS.contains(&key) => {
                let joined = choices_are && matches!(key, "anyOf" | "oneOf");
                all.extend(list.iter().map(|child| (child, joined)));
            }
            Value::Object(named) if MAPS.contains(&key) => {
                all.extend(named.values().map(|child| (child, false)));
            }
            Value::Object(_) if SCHEMA.contains(&key) => all.push((value, false)),
            _ => {}
        }
    }
    all
}

/// Whether a keyword beside its `allOf` describes the object.
fn choices_are_beside(map: &Map<String, Value>) -> bool {
    ["properties", "patternProperties", "anyOf", "oneOf", "$ref"]
        .iter()
        .any(|key| map.contains_key(*key))
}

fn close(schema: &mut Value, place: &str, is_joined: bool, joined: &HashSet<&str>) {
    let Value::Object(map) = schema else { return };
    let is_joined = is_joined || joined.contains(place);
    let names = |map: &Map<String, Value>| map.get("properties").is_some_and(Value::is_object);
    if names(map) && !is_joined && !joins(map) && !requires_more(map) {
        map.entry("additionalProperties").or_insert(false.into());
    }
    let choices_are = is_joined || adds_to_choices(map);
    let all_are = is_joined
        || choices_are_beside(map)
        || map
            .get("allOf")
            .and_then(Value::as_array)
            .is_some_and(|l| l.len() > 1);
    for (key, value) in map.iter_mut() {
        let key = key.as_str();
        match value {
            Value::Array(list) if key == "allOf" || LISTS.contains(&key) => {
                let child_is_joined = match key {
                    "allOf" => all_are,
                    "anyOf" | "oneOf" => choices_are,
                    _ => false,
                };
                for (n, child) in list.iter_mut().enumerate() {
                    close(
                        child,
                        &format!("{place}/{key}/{n}"),
                        child_is_joined,
                        joined,
                    );
                }
            }
            Value::Object(named) if MAPS.contains(&key) => {
                for (name, child) in named.iter_mut() {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    close(child, &format!("{place}/{key}/{name}"), false, joined);
                }
            }
            Value::Object(_) if SCHEMA.contains(&key) => {
                close(value, &format!("{place}/{key}"), false, joined);
            }
            _ => {}
        }
    }
}

/// Whether it requires a property that it does not name.
fn requires_more(map: &Map<String, Value>) -> bool {
    let required = map.get("required").and_then(Value::as_array);
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        map.get("properties").and_then(|p| p.get(name)).is_some()
    };
    required.is_some_and(|required| !required.iter().all(named))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_with_properties_get_no_additional_ones() {
        let open = json!({
            "type": "object",
            "properties": {
                // The name of a property is not a keyword.
                "properties": {"type": "object", "properties": {"a": {"type": "string"}}},
                "list": {"items": {"properties": {"b": {}}}},
                "any": {"type": "object"},
                "said": {"properties": {"c": {}}, "additionalProperties": true},
                "either": {"anyOf": [{"properties": {"d": {}}}, {"type": "null"}]},
                "one": {"$ref": "#/$defs/one"},
            },
            "$defs": {"one": {"properties": {"e": {}}}},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "properties": {"type": "object", "properties": {"a": {"type": "string"}},
                    "additionalProperties": false},
                "list": {"items": {"properties": {"b": {}}, "additionalProperties": false}},
                "any": {"type": "object"},
                "said": {"properties": {"c": {}}, "additionalProperties": true},
                "either": {"anyOf": [{"properties": {"d": {}}, "additionalProperties": false},
                    {"type": "null"}]},
                "one": {"$ref": "#/$defs/one"},
            },
            "$defs": {"one": {"properties": {"e": {}}, "additionalProperties": false}},
            "additionalProperties": false,
        });
        assert_eq!(closed(&open), expected);
        assert_eq!(closed(&expected), expected);
    }

    #[test]
    fn combined_schemas_stay_open() {
        for open in [
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}}, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}}),
            json!({"allOf": [{"$ref": "#/$defs/b"}, {"properties": {"a": {}}}],
                "$defs": {"b": {"properties": {"b": {}}}}}),
            json!({"properties": {"a": {}}, "required": ["a", "b"]}),
            json!({"not": {"properties": {"a": {}}}}),
            json!(true),
        ] {
            assert_eq!(closed(&open), open);
        }
        // An `allOf` with a single schema, as some generators write references.
        let alone = json!({"allOf": [{"properties": {"a": {}}}]});
        assert_eq!(closed(&alone)["allOf"][0]["additionalProperties"], false);
    }
}
