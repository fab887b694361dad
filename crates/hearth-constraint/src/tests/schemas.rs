//! Whatever the model prefers, the answer is valid against the schema.

use hearth_proto::{Constraint, FailureKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fits, lossy, run, vocabulary};
use crate::Matcher;

/// A table of schemas, each with whether forced tokens must save decodes; longer than a
/// screen: one row for each schema.
pub(super) fn table() -> Vec<(Value, bool)> {
    let open = |schema| (schema, false);
    let saves = |schema| (schema, true);
    vec![
        open(json!({})),
        open(json!({"type": "string"})),
        open(json!({"type": "string", "maxLength": 5})),
        open(json!({"type": "string", "minLength": 3, "maxLength": 4})),
        open(json!({"type": "string", "pattern": "^[a-c]{2,5}$"})),
        open(json!({"type": "string", "pattern": "[0-9]"})),
        open(json!({"type": "string", "format": "date"})),
        open(json!({"type": "string", "format": "time"})),
        open(json!({"type": "string", "format": "date-time"})),
        open(json!({"type": "string", "format": "uuid"})),
        open(json!({"type": "string", "format": "ipv4"})),
        open(json!({"type": "string", "format": "email"})),
        open(json!({"type": "boolean"})),
        saves(json!({"type": "null"})),
        open(json!({"type": "number", "minimum": -1.5, "maximum": 2.25})),
        open(json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1})),
        open(json!({"type": "integer", "minimum": -3, "maximum": 117})),
        open(json!({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 11})),
        open(json!({"type": "integer", "minimum": 0, "maximum": 90, "multipleOf": 15})),
        saves(json!({"enum": ["celsius", "fahrenheit"]})),
        open(json!({"enum": [1, "two", null, [3], {"four": 4}]})),
        saves(json!({"const": {"a": [1, 2, {"b": null}]}})),
        open(
            json!({"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}, "maxItems": 4}),
        ),
        open(json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3})),
        open(
            json!({"type": "array", "prefixItems": [{"type": "integer", "minimum": 0, "maximum": 1}, {"const": "x"}], "items": false, "minItems": 2}),
        ),
        open(json!({"type": ["integer", "null"], "minimum": 5, "maximum": 6})),
        saves(
            json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false}),
        ),
        saves(json!({"type": "object", "properties": {
            "location": {"type": "string", "maxLength": 20},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["location", "unit"], "additionalProperties": false})),
        open(
            json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}, "additionalProperties": false}),
        ),
        saves(json!({"type": "object", "properties": {
            "person": {"type": "object", "properties": {
                "name": {"type": "object", "properties": {"first": {"type": "string", "maxLength": 3}, "last": {"type": "string", "maxLength": 3}},
                    "required": ["first", "last"], "additionalProperties": false}},
                "required": ["name"], "additionalProperties": false}},
            "required": ["person"], "additionalProperties": false})),
        open(
            json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}, "maxProperties": 3}),
        ),
        open(
            json!({"type": "object", "patternProperties": {"^x_": {"type": "boolean"}}, "additionalProperties": false}),
        ),
        open(
            json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "minProperties": 1, "additionalProperties": false}),
        ),
        open(
            json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "string", "maxLength": 2}]}),
        ),
        open(
            json!({"anyOf": [{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {"type": "array", "items": {"const": 0}}]}),
        ),
        open(json!({"oneOf": [{"type": "boolean"}, {"type": "null"}]})),
        saves(json!({"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["kind", "r"], "additionalProperties": false},
            {"type": "object", "properties": {"kind": {"const": "square"}, "w": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["kind", "w"], "additionalProperties": false}]})),
        open(json!({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]})),
        saves(json!({"allOf": [
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}]})),
        saves(
            json!({"$ref": "#/$defs/point", "$defs": {"point": {"type": "object", "properties": {
            "x": {"$ref": "#/$defs/c"}, "y": {"$ref": "#/$defs/c"}}, "required": ["x", "y"], "additionalProperties": false},
            "c": {"type": "integer", "minimum": 0, "maximum": 99}}}),
        ),
        open(
            json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
            "v": {"type": "boolean"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
            "required": ["v", "next"], "additionalProperties": false}}}),
        ),
        open(
            json!({"type": "array", "maxItems": 2, "items": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {"k": {"type": "number", "minimum": 0, "maximum": 1}}, "required": ["k"], "additionalProperties": false}}}),
        ),
    ]
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap()
}

fn check(text: &[u8], schema: &Value, validator: &jsonschema::Validator) {
    // Formats are checked by form only, without a calendar.
    let dated = lossy(text)
        .replace(":60", ":59")
        .replace("-02-29", "-02-28");
    let value: Value =
        serde_json::from_str(&dated).unwrap_or_else(|e| panic!("{schema}: {dated}: {e}"));
    assert!(validator.is_valid(&value), "{schema}: {}", lossy(text));
}

#[test]
fn every_answer_is_valid_and_fast_forward_saves_decodes() {
    let (vocabulary, pieces) = vocabulary(true);
    for (schema, must_save) in table() {
        let validator = validator(&schema);
        let whole = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).unwrap();
        // Decodes and bytes: the lengths of the answers differ.
        let (mut slow, mut fast) = ((0, 0), (0, 0));
        for seed in 0..12 {
            for forward in [false, true] {
                let run = run(&mut whole.clone(), &pieces, seed, forward, 4000);
                assert!(run.complete, "{schema} goes on: {}", lossy(&run.text));
                check(&run.text, &schema, &validator);
                let sums = if forward { &mut fast } else { &mut slow };
                *sums = (sums.0 + run.decodes, sums.1 + run.text.len());
            }
        }
        if must_save {
            assert!(
                fast.0 * slow.1 < slow.0 * fast.1,
                "{schema}: {fast:?}, and {slow:?} without"
            );
        }
    }
}

#[test]
fn spacing_is_free_but_bounded() {
    let (vocabulary, pieces) = vocabulary(true);
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"const": 1}}}, "required": ["a"]});
    let whole = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema)).unwrap();
    for (text, all, ends) in [
        (r#"{"a":[1,1]}"#, true, true),
        (r#"{"a": [1, 1]}"#, true, true),
        ("{\n  \"a\": [\n    1,\n    1\n  ]\n}", true, true),
        ("{\r\n\t\"a\" : [ 1 ] }", true, true),
        (r#"{"a":  [1]}"#, false, false),
        ("{\n\n\"a\":", false, false),
        (r#" {"a":[1]}"#, false, false),
        (r#"{"a": [1"#, true, false),
    ] {
        assert_eq!(
            fits(&mut whole.clone(), &pieces, text),
            (all, ends),
            "{text}"
        );
    }
}

#[test]
fn the_end_of_an_answer_is_detected() {
    let (vocabulary, pieces) = vocabulary(true);
    let schema = json!({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": false});
    let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema)).unwrap();
    assert!(!matcher.is_complete());
    assert_eq!(fits(&mut matcher, &pieces, r#"{"a":1}"#), (true, true));
    assert!(matcher.is_complete());
    assert!(matcher.forced().is_empty());
    let mut logits = vec![0.0; pieces.len() + 7];
    matcher.mask(&mut logits).unwrap();
    let allowed: Vec<_> = (0..).zip(&logits).filter(|(_, l)| l.is_finite()).collect();
    assert_eq!(allowed, [(super::END, &0.0)]);
    matcher.accept(super::END).unwrap();
    assert_eq!(matcher.accept(65).unwrap_err().kind, FailureKind::Internal);
    assert_eq!(matcher.accept(-1).unwrap_err().kind, FailureKind::Internal);
}

#[test]
fn a_forbidden_token_is_an_error() {
    let (vocabulary, _) = vocabulary(true);
    let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonObject).unwrap();
    assert!(matcher.accept(i32::from(b'x')).is_err());
    assert!(matcher.mask(&mut [0.0; 300]).is_err());
    assert!(matcher.forced().is_empty() && !matcher.is_complete());
}

#[test]
fn unsupported_keywords_are_refused_with_their_path() {
    let (vocabulary, _) = vocabulary(true);
    for (schema, part) in [
        (
            json!({"properties": {"a": {"type": "array", "uniqueItems": true}}}),
            "/properties/a/uniqueItems",
        ),
        (json!({"items": {"format": "colour"}}), "/items/format"),
        (
            json!({"properties": {"x/y": {"type": "text"}}}),
            "/properties/x~1y/type",
        ),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"$ref": "http://example.com/schema"}), "/$ref"),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "oneOf",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            "regex parse error: unclosed",
        ),
        (
            json!({"type": "integer", "minimum": 3, "maximum": 2}),
            "minimum",
        ),
        (json!({"type": "array", "maxItems": 1e9}), "/maxItems"),
        (
            json!({"properties": {"a": {"minLength": 2_000_000}}}),
            "/properties/a/minLength",
        ),
        (
            json!({"properties": {"a": {}, "b": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}),
            "at \"/properties/b\"",
        ),
        (
            json!({"properties": {"p": {"pattern": "a"}, "b": {"items": {"pattern": "("}}}}),
            "\"/properties/b/items\": regex parse error: unclosed",
        ),
        (
            json!({"properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["n"], "type": "object"}),
            "/properties/n",
        ),
        (
            json!({"$ref": "#/$defs/d", "$defs": {"d": {"anyOf": [{"const": 1}, {"multipleOf": 0}]}}}),
            "at \"/$defs/d/anyOf/1\"",
        ),
        (json!([1]), "must be an object"),
        (json!(false), "must be an object"),
    ] {
        let error = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).unwrap_err();
        assert_eq!(error.kind, FailureKind::InvalidSchema);
        assert!(error.message.contains(part), "{schema}: {error}");
        assert!(!error.message.contains(['\n', '<']), "{schema}: {error}");
    }
}

#[test]
fn a_lenient_schema_ignores_unsupported_keywords() {
    let (vocabulary, pieces) = vocabulary(true);
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["a"], "not": {"type": "null"},
        "properties": {"a": {"type": "string", "format": "entity_id", "maxLength": 2}},
    });
    let whole = Matcher::new(&vocabulary, &Constraint::LenientSchema(schema)).unwrap();
    for (text, fitting) in [
        (r#"{"a": "xy"}"#, true),
        (r#"{"a": "xyz"}"#, false),
        (r#"{"a": 1}"#, false),
        ("{}", false),
    ] {
        let (all, ends) = fits(&mut whole.clone(), &pieces, text);
        assert_eq!(all && ends, fitting, "{text}");
    }
    for (schema, part) in [
        (json!({"type": "array", "maxItems": 1e9}), "/maxItems"),
        (json!([1]), "must be an object"),
    ] {
        let error = Matcher::new(&vocabulary, &Constraint::LenientSchema(schema)).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn additional_properties_appear_only_where_allowed() {
    let (vocabulary, pieces) = vocabulary(true);
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {"a": {"type": "object", "properties": {"b": {"const": 1}}}},
    });
    let mut said = schema.clone();
    said["additionalProperties"] = true.into();
    said["properties"]["a"]["additionalProperties"] = true.into();
    let outer = r#"{"a": {"b": 1}, "c": 2}"#;
    let inner = r#"{"a": {"b": 1, "c": 2}}"#;
    let (plain, open) = (schema.clone(), schema.clone());
    for (constraint, fitting) in [
        (Constraint::JsonSchema(plain), false),
        (Constraint::LenientSchema(schema), false),
        (Constraint::OpenSchema(open), true),
        (Constraint::JsonSchema(said), true),
    ] {
        let whole = Matcher::new(&vocabulary, &constraint).unwrap();
        assert!(fits(&mut whole.clone(), &pieces, r#"{"a": {"b": 1}}"#).1);
        for text in [outer, inner] {
            let (all, ends) = fits(&mut whole.clone(), &pieces, text);
            assert_eq!(all && ends, fitting, "{constraint:?}: {text}");
        }
    }
}

#[test]
fn options_inside_a_schema_are_ignored() {
    let (vocabulary, pieces) = vocabulary(true);
    let schema =
        json!({"type": "array", "x-guidance": {"whitespace_pattern": "x", "item_separator": ";"}});
    let whole = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema)).unwrap();
    assert!(fits(&mut whole.clone(), &pieces, "[1, 2]").1);
    assert!(!fits(&mut whole.clone(), &pieces, "[1;2]").0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_seed_gives_valid_answers(seed: u64, pick: prop::sample::Index, special: bool, fast: bool) {
        let table = table();
        let (schema, _) = pick.get(&table);
        let (vocabulary, pieces) = vocabulary(special);
        let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).unwrap();
        let run = run(&mut matcher, &pieces, seed, fast, 4000);
        prop_assert!(run.complete);
        check(&run.text, schema, &validator(schema));
    }
}
