//! What is left out of ordinary schemas, and that the rest is enforced.

use hearth_proto::{Constraint, GenerateRequest, Message, Prompt};
use serde_json::{Value, json};

use super::schemas::table;
use super::{lossy, run, vocabulary};
use crate::relax::{Compiler, relaxed};
use crate::{Matcher, check, not_enforced, relaxed_tool};

/// Schemas as libraries generate them, what is left out, and what is enforced instead; longer
/// than a screen: one row for each schema.
fn ordinary() -> Vec<(Value, &'static [&'static str], Value)> {
    let number = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let same = |schema: Value, omitted: &'static [&'static str]| (schema.clone(), omitted, schema);
    vec![
        (
            json!({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": number,
                "maxProperties": 3}),
            &[],
            json!({"type": "object", "additionalProperties": number}),
        ),
        (
            json!({"type": "object", "propertyNames": {"type": "string", "enum": ["a", "b"]},
                "additionalProperties": number, "required": ["a"]}),
            &[],
            json!({"type": "object", "properties": {"a": number, "b": number}, "required": ["a"],
                "additionalProperties": false}),
        ),
        (
            json!({"type": "object", "propertyNames": {"pattern": "^[a-c]$"},
                "additionalProperties": number, "maxProperties": 2}),
            &[],
            json!({"type": "object", "patternProperties": {"^[a-c]$": number},
                "additionalProperties": false}),
        ),
        (
            json!({"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": number,
                "maxProperties": 2}),
            &["/propertyNames"],
            json!({"type": "object", "additionalProperties": number}),
        ),
        (
            json!({"type": "array", "items": number, "uniqueItems": true, "maxItems": 3}),
            &["/uniqueItems"],
            json!({"type": "array", "items": number, "maxItems": 3}),
        ),
        (
            json!({"properties": {"a": {"type": "string", "format": "phone", "maxLength": 4}},
                "required": ["a"], "additionalProperties": false}),
            &["/properties/a/format"],
            json!({"properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]}),
        ),
        (
            json!({"type": "string", "pattern": "^(?=.*[0-9]).{1,4}$", "maxLength": 4}),
            &["/pattern"],
            json!({"type": "string", "maxLength": 4}),
        ),
        (
            json!({"oneOf": [{"type": "integer", "minimum": 0, "maximum": 5},
                {"type": "number", "minimum": 3, "maximum": 9}]}),
            &["/oneOf"],
            json!({"type": "number", "minimum": 0, "maximum": 9}),
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"if": {"type": "null"}, "then": false,
                "else": true, "type": "boolean"}}),
            &["/items/if"],
            json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 1}),
        ),
        (
            json!({"type": "object", "patternProperties": {"^(?!x)": {"type": "null"}},
                "additionalProperties": false, "maxProperties": 1}),
            &["/patternProperties/^(?!x)"],
            json!({"type": "object"}),
        ),
        same(
            json!({"type": "string", "pattern": "^a|b$", "maxLength": 5}),
            &[],
        ),
        same(
            json!({"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"],
                    "additionalProperties": false},
                {"type": "object", "properties": {"kind": {"enum": ["b"]}}, "required": ["kind"],
                    "additionalProperties": false}]}),
            &[],
        ),
        // Not keywords, but names of properties.
        same(
            json!({"type": "object", "properties": {"not": number, "format": number,
                "if": number}, "required": ["not", "format", "if"], "additionalProperties": false}),
            &[],
        ),
    ]
}

#[test]
fn what_is_not_enforced_is_named_and_the_rest_holds() {
    let (vocabulary, pieces) = vocabulary(true);
    for (schema, omitted, enforced) in ordinary() {
        let constraint = Constraint::LenientSchema(schema.clone());
        let request = GenerateRequest {
            constraint: Some(constraint.clone()),
            ..GenerateRequest::default()
        };
        check(&request).unwrap();
        assert_eq!(not_enforced(&request), omitted, "{schema}");
        let whole = Matcher::new(&vocabulary, &constraint).unwrap();
        let validator = jsonschema::validator_for(&enforced).unwrap();
        for seed in 0..8 {
            let run = run(&mut whole.clone(), &pieces, seed, true, 4000);
            assert!(run.complete, "{schema} goes on: {}", lossy(&run.text));
            let value = serde_json::from_slice(&run.text).unwrap();
            assert!(validator.is_valid(&value), "{schema}: {value}");
        }
    }
}

#[test]
fn what_can_be_enforced_is_kept() {
    for (schema, _) in table() {
        let (same, omitted) = relaxed(&schema, Compiler::Guidance);
        assert!(omitted.is_empty(), "{schema}: {omitted:?}");
        assert_eq!(same, schema);
    }
}

#[test]
fn patterns_that_the_chat_layer_cannot_write_are_left_out_of_tools() {
    let tool = |pattern: &str| {
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object",
            "properties": {"x": {"type": "string", "pattern": pattern}}}}})
    };
    for (pattern, is_kept) in [
        ("^[a-z]+$", true),
        ("^(?:on|off)$", true),
        ("^\\d{2}:\\d{2}$", true),
        ("[a-z]", false),
        ("^.*$", false),
        ("^[^x]$", false),
        ("^\"$", false),
        ("^(?i)a$", false),
        ("^(?=a)a$", false),
    ] {
        let tool = tool(pattern);
        let request = GenerateRequest {
            prompt: Prompt::Chat {
                messages: vec![Message::user("x")],
                tools: vec![tool.clone()],
            },
            ..GenerateRequest::default()
        };
        let named = ["f/properties/x/pattern"];
        let expected: &[&str] = if is_kept { &[] } else { &named };
        assert_eq!(not_enforced(&request), expected, "{pattern}");
        assert_eq!(relaxed_tool(&tool) == tool, is_kept, "{pattern}");
    }
}

#[test]
fn a_strict_tool_is_refused_with_the_place() {
    let tool = json!({"function": {"name": "f", "strict": true, "parameters": {
        "type": "object", "properties": {"x": {"type": "array", "uniqueItems": true}}}}});
    let request = GenerateRequest {
        prompt: Prompt::Chat {
            messages: vec![Message::user("x")],
            tools: vec![tool],
        },
        ..GenerateRequest::default()
    };
    let failure = check(&request).unwrap_err();
    assert!(
        failure.message.contains("\"f\"") && failure.message.contains("/properties/x/uniqueItems"),
        "{failure}"
    );
}
