//! The constraint on an answer: `response_format`, `grammar` and similar fields.

use hearth_proto::{Constraint, Failure, FailureKind};
use serde_json::{Map, Value};

use crate::fields::field;

type Make = fn(String) -> Constraint;

/// The constraint: `OpenAI`'s `response_format`, llama.cpp's `grammar` and `json_schema`,
/// and `regex` and `lark`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub(super) fn constraint(body: &Map<String, Value>) -> Result<Option<Constraint>, Failure> {
    let given = |name: &str| body.get(name).filter(|v| !v.is_null());
    let mut found: Vec<(&str, Constraint)> = Vec::new();
    if let Some(format) = given("response_format")
        && let Some(constraint) = response_format(format)?
    {
        found.push(("response_format", constraint));
    }
    if let Some(schema) = given("json_schema") {
        found.push(("json_schema", Constraint::JsonSchema(schema.clone())));
    }
    let texts: [(&str, Make); 3] = [
        ("grammar", Constraint::Gbnf),
        ("regex", Constraint::Regex),
        ("lark", Constraint::Lark),
    ];
    for (name, make) in texts {
        match given(name) {
            None => {}
            // llama.cpp's clients send an empty one for none.
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => found.push((name, make(text.clone()))),
            Some(_) => return Err(Failure::invalid_field(name, "must be a string")),
        }
    }
    if let [(first, _), (second, _), ..] = found.as_slice() {
        return Err(Failure::invalid_field(
            first,
            format!("and `{second}` exclude each other; send one of them"),
        ));
    }
    let is_open = field(body, "additional_properties").flag()? == Some(true);
    let found = found.pop().map(|(_, constraint)| constraint);
    Ok(found.map(|constraint| match constraint {
        Constraint::JsonSchema(schema) if is_open => Constraint::OpenSchema(schema),
        other => other,
    }))
}

fn response_format(format: &Value) -> Result<Option<Constraint>, Failure> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        // llama.cpp accepts a schema here, too.
        Some("json_object") => Ok(Some(match format.get("schema") {
            None | Some(Value::Null) => Constraint::JsonObject,
            Some(schema) => Constraint::JsonSchema(schema.clone()),
        })),
        Some("json_schema") => match format.pointer("/json_schema/schema") {
            Some(schema) => Ok(Some(Constraint::JsonSchema(schema.clone()))),
            None => Err(Failure::invalid_field(
                "response_format",
                "of type \"json_schema\" needs `json_schema.schema`",
            )),
        },
        Some(other) => Err(Failure::of_field(
            FailureKind::NotSupported,
            "response_format",
            format!("{other:?} is not supported: use \"text\", \"json_object\" or \"json_schema\""),
        )),
        None => Err(Failure::invalid_field(
            "response_format",
            "must be an object with a `type`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<Option<Constraint>, Failure> {
        constraint(body.as_object().unwrap())
    }

    #[test]
    fn every_door_leads_to_its_constraint() {
        let schema = json!({"type": "integer"});
        for (body, expected) in [
            (json!({}), None),
            (
                json!({"response_format": null, "json_schema": null, "regex": null}),
                None,
            ),
            (
                json!({"response_format": {"type": "text"}, "grammar": ""}),
                None,
            ),
            (
                json!({"response_format": {"type": "json_object"}}),
                Some(Constraint::JsonObject),
            ),
            (
                json!({"json_schema": schema, "additional_properties": true}),
                Some(Constraint::OpenSchema(schema.clone())),
            ),
            (
                json!({"json_schema": schema, "additional_properties": false}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"response_format": {"type": "json_schema",
                    "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"json_schema": schema}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"grammar": "root ::= \"a\""}),
                Some(Constraint::Gbnf("root ::= \"a\"".into())),
            ),
            (json!({"regex": "a+"}), Some(Constraint::Regex("a+".into()))),
            (
                json!({"lark": "start: \"a\"", "response_format": {"type": "text"}}),
                Some(Constraint::Lark("start: \"a\"".into())),
            ),
        ] {
            assert_eq!(decode(&body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (body, kind, part) in [
            (
                json!({"response_format": {"type": "structural_tag"}}),
                FailureKind::NotSupported,
                "structural_tag",
            ),
            (
                json!({"response_format": "json"}),
                FailureKind::InvalidArgs,
                "`type`",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                FailureKind::InvalidArgs,
                "`json_schema.schema`",
            ),
            (json!({"grammar": 3}), FailureKind::InvalidArgs, "`grammar`"),
            (
                json!({"regex": "a", "response_format": {"type": "json_object"}}),
                FailureKind::InvalidArgs,
                "`response_format` and `regex`",
            ),
        ] {
            let error = decode(&body).unwrap_err();
            assert_eq!(error.kind, kind, "{body}");
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }
}
