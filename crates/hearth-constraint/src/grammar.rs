//! Translates constraints to grammars.

use hearth_proto::{Constraint, Failure, FailureKind};
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use super::closed::closed;
use super::vocabulary::Vocabulary;
use super::{bounds, gbnf, place};

/// One occurrence between two lexemes of JSON; the crate's documentation gives the reason.
const WHITESPACE: &str = r"[\x20]|\r?\n([\x20]{0,16}|\t{0,8})";

/// Checks the bounds on a constraint's cost, and its syntax where that is cheap.
pub(super) fn check(constraint: &Constraint) -> Result<(), Failure> {
    grammar(constraint).map(drop)
}

/// Compiles a constraint on a whole answer.
pub(super) fn compile(
    vocabulary: &Vocabulary,
    constraint: &Constraint,
) -> Result<llguidance::Matcher, Failure> {
    vocabulary.compile(grammar(constraint)?).map_err(|error| {
        let mut message = first_line(&error);
        if let Constraint::JsonSchema(schema)
        | Constraint::OpenSchema(schema)
        | Constraint::LenientSchema(schema) = constraint
            && let Some(place) = place::of(vocabulary, schema, &message)
        {
            message = format!("at {place:?}: {message}");
        }
        invalid(name(constraint), &message)
    })
}

fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, Failure> {
    let what = name(constraint);
    match constraint {
        Constraint::JsonObject => from_schema(&json!({"type": "object"}), false),
        Constraint::JsonSchema(schema) => {
            bounds::schema(schema)?;
            from_schema(&closed(schema), false)
        }
        Constraint::OpenSchema(schema) => {
            bounds::schema(schema)?;
            from_schema(schema, false)
        }
        Constraint::LenientSchema(schema) => {
            bounds::schema(schema)?;
            from_schema(&closed(schema), true)
        }
        Constraint::Regex(regex) => {
            bounds::text(what, regex)?;
            Ok(TopLevelGrammar::from_regex(unanchored(regex)))
        }
        Constraint::Lark(text) => {
            bounds::text(what, text)?;
            bounds::lark(text)?;
            Ok(TopLevelGrammar::from_lark(text.clone()))
        }
        Constraint::Gbnf(text) => {
            bounds::text(what, text)?;
            let lark = gbnf::to_lark(text).map_err(|error| invalid(what, &error))?;
            Ok(TopLevelGrammar::from_lark(lark))
        }
    }
}

fn name(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::JsonObject => "JSON object",
        Constraint::JsonSchema(_) | Constraint::OpenSchema(_) | Constraint::LenientSchema(_) => {
            "JSON schema"
        }
        Constraint::Regex(_) => "regular expression",
        Constraint::Lark(_) => "Lark grammar",
        Constraint::Gbnf(_) => "GBNF grammar",
    }
}

pub(super) fn from_schema(schema: &Value, lenient: bool) -> Result<TopLevelGrammar, Failure> {
    Ok(TopLevelGrammar::from_json_schema(with_options(
        schema,
        json!({"whitespace_pattern": WHITESPACE, "lenient": lenient}),
    )?))
}

/// The schema with the compiler's options added, which replace any of its own.
pub(super) fn with_options(schema: &Value, options: Value) -> Result<Value, Failure> {
    let mut map = match schema {
        Value::Object(map) => map.clone(),
        Value::Bool(true) => Map::new(),
        _ => {
            return Err(invalid(
                "JSON schema",
                "it must be an object; {\"type\": \"object\"} allows any JSON object",
            ));
        }
    };
    map.insert("x-guidance".into(), options);
    Ok(Value::Object(map))
}

pub(super) fn invalid(what: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the {what} cannot be used: {why}"),
    )
}

/// The whole answer must match anyway; llguidance does not support anchors.
fn unanchored(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    match regex.strip_suffix('$') {
        Some(rest) if rest.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0 => rest,
        _ => regex,
    }
}

/// llguidance's message without its state, traces and excerpts.
pub(super) fn first_line(error: &str) -> String {
    let mut lines = error.trim().lines();
    let mut line = lines.next().unwrap_or_default().to_owned();
    // The parser of regular expressions marks the position first and gives the reason last.
    if line.ends_with(':')
        && let Some(reason) = lines.find_map(|l| l.strip_prefix("error:"))
    {
        line.push_str(reason);
    }
    line.chars().take(300).collect()
}
