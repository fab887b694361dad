//! The constraint on an answer: `response_format`, `grammar` and similar fields.

use hearth_proto::{Constraint, Failure, FailureKind};
use serde::Deserialize;
use serde_json::Value;

use crate::read::quote;
use crate::scalars::{Flag, Text};
use crate::shape::Object;

/// `OpenAI`'s `response_format`, llama.cpp's `grammar` and `json_schema`, and `regex` and
/// `lark`.
#[derive(Debug, Deserialize)]
pub(super) struct FormatFields {
    response_format: Option<Object<ResponseFormat>>,
    json_schema: Option<Value>,
    grammar: Option<Text>,
    regex: Option<Text>,
    lark: Option<Text>,
    /// Whether objects may have properties that the schema does not name.
    additional_properties: Option<Flag>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: Option<Text>,
    /// llama.cpp accepts a schema here, too.
    schema: Option<Value>,
    json_schema: Option<Object<NamedSchema>>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
    /// Whether a schema that cannot be guaranteed is refused.
    strict: Option<Flag>,
}

impl NamedSchema {
    fn constraint(self) -> Option<Constraint> {
        let is_strict = self.strict.is_some_and(|flag| flag.0);
        self.schema.map(|schema| json_schema(schema, is_strict))
    }
}

/// The constraint by a schema, which is refused or relaxed where it cannot be guaranteed.
pub(super) fn json_schema(schema: Value, is_strict: bool) -> Constraint {
    if is_strict {
        Constraint::JsonSchema(schema)
    } else {
        Constraint::LenientSchema(schema)
    }
}

impl FormatFields {
    /// The constraint and the field that sets it; at most one may.
    pub(super) fn constraint(self) -> Result<Option<(&'static str, Constraint)>, Failure> {
        // llama.cpp's clients send an empty text for none.
        let text = |text: Option<Text>| text.map(|t| t.0).filter(|text| !text.is_empty());
        let format = self.response_format.map(|format| format.0.constraint());
        let given = [
            ("response_format", format.transpose()?.flatten()),
            (
                "json_schema",
                self.json_schema.map(Constraint::LenientSchema),
            ),
            ("grammar", text(self.grammar).map(Constraint::Gbnf)),
            ("regex", text(self.regex).map(Constraint::Regex)),
            ("lark", text(self.lark).map(Constraint::Lark)),
        ];
        let mut given = given
            .into_iter()
            .filter_map(|(name, constraint)| Some((name, constraint?)));
        let Some((first, constraint)) = given.next() else {
            return Ok(None);
        };
        if let Some((second, _)) = given.next() {
            return Err(Failure::invalid_field(
                first,
                format_args!("and `{second}` exclude each other; send one of them"),
            ));
        }
        let is_open = self.additional_properties.is_some_and(|flag| flag.0);
        let constraint = match constraint {
            Constraint::LenientSchema(schema) if is_open => Constraint::OpenSchema(schema),
            other => other,
        };
        Ok(Some((first, constraint)))
    }
}

impl ResponseFormat {
    fn constraint(self) -> Result<Option<Constraint>, Failure> {
        let field = "response_format";
        match self.kind.as_ref().map(|kind| kind.0.as_str()) {
            Some("text") => Ok(None),
            Some("json_object") => Ok(Some(match self.schema {
                None => Constraint::JsonObject,
                Some(schema) => Constraint::LenientSchema(schema),
            })),
            Some("json_schema") => match self.json_schema.and_then(|n| n.0.constraint()) {
                Some(constraint) => Ok(Some(constraint)),
                None => Err(Failure::invalid_field(
                    field,
                    "of type \"json_schema\" needs `json_schema.schema`",
                )),
            },
            Some(other) => Err(Failure::of_field(
                FailureKind::NotSupported,
                field,
                format_args!(
                    "{} is not supported: use \"text\", \"json_object\" or \"json_schema\"",
                    quote(other)
                ),
            )),
            None => Err(Failure::invalid_field(
                field,
                "must be an object with a `type`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<Option<Constraint>, Failure> {
        let fields: FormatFields = crate::read::read(body.as_object().unwrap())?;
        let given = fields.constraint()?;
        assert!(
            given
                .as_ref()
                .is_none_or(|(field, _)| body.get(field).is_some())
        );
        Ok(given.map(|(_, constraint)| constraint))
    }

    #[test]
    fn every_response_format_gives_its_constraint() {
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
                Some(Constraint::LenientSchema(schema.clone())),
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                Some(Constraint::LenientSchema(schema.clone())),
            ),
            (
                json!({"response_format": {"type": "json_schema",
                    "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"response_format": {"type": "json_schema",
                    "json_schema": {"name": "n", "strict": false, "schema": schema}}}),
                Some(Constraint::LenientSchema(schema.clone())),
            ),
            (
                json!({"json_schema": schema}),
                Some(Constraint::LenientSchema(schema.clone())),
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
    fn errors_name_the_field() {
        for (body, kind, part) in [
            (
                json!({"response_format": {"type": "structural_tag"}}),
                FailureKind::NotSupported,
                "structural_tag",
            ),
            (
                json!({"response_format": "json"}),
                FailureKind::InvalidArgs,
                "`response_format` must be an object",
            ),
            (
                json!({"response_format": {"schema": {}}}),
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
