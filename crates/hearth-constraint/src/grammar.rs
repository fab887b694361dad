//! Translates constraints to grammars.

use hearth_proto::{Constraint, Failure};
use llguidance::api::TopLevelGrammar;
use serde_json::json;

use super::closed::closed;
use super::error::{first_line, invalid};
use super::relax::{Compiler, relaxed};
use super::schema::from_schema;
use super::vocabulary::Vocabulary;
use super::{bounds, gbnf, place};

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
            from_schema(&relaxed(schema, Compiler::Guidance).0, true)
        }
        Constraint::LenientSchema(schema) => {
            bounds::schema(schema)?;
            from_schema(&closed(&relaxed(schema, Compiler::Guidance).0), true)
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

/// The whole answer must match anyway; llguidance does not support anchors.
fn unanchored(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    match regex.strip_suffix('$') {
        Some(rest) if rest.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0 => rest,
        _ => regex,
    }
}
