//! Translates JSON schemas to llguidance's grammars.

use hearth_proto::Failure;
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use super::error::invalid;

/// One occurrence between two lexemes of JSON; the crate's documentation gives the reason.
const WHITESPACE: &str = r"[\x20]|\r?\n([\x20]{0,16}|\t{0,8})";

pub(super) fn from_schema(schema: &Value, lenient: bool) -> Result<TopLevelGrammar, Failure> {
    Ok(TopLevelGrammar::from_json_schema(with_options(
        schema,
        json!({"whitespace_pattern": WHITESPACE, "lenient": lenient}),
    )?))
}

/// The schema with the compiler's options added, which replace any of its own.
fn with_options(schema: &Value, options: Value) -> Result<Value, Failure> {
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
