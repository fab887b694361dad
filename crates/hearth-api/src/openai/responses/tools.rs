//! Tools, in the chat's form.

use hearth_proto::{Failure, ToolChoice};
use serde::Deserialize as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess};
use serde_json::{Map, Value, json};

use super::input::not_supported;
use crate::openai::tools::{self, allowed_tools, simple_choice};
use crate::read::quote;
use crate::shape::{List, Object, Shape, deserialize_by_shape, refusal};

/// Functions of the caller's own; there are no others.
pub(super) fn tools(List(list): List<Object<Map<String, Value>>>) -> Result<Vec<Value>, Failure> {
    // Those that a server runs itself (web search) are left out: there are none here.
    let is_own = |(_, Object(tool)): &(usize, Object<Map<String, Value>>)| {
        let kind = tool.get("type").and_then(Value::as_str);
        kind.is_none_or(|kind| kind == "function")
    };
    let function = |(n, Object(mut function)): (usize, Object<Map<String, Value>>)| {
        function.remove("type");
        if !matches!(function.get("name"), Some(Value::String(name)) if !name.is_empty()) {
            return Err(Failure::invalid_field(
                &format!("tools[{n}]"),
                "needs a `name`",
            ));
        }
        Ok(json!({"type": "function", "function": function}))
    };
    let own = list.into_iter().enumerate().filter(is_own);
    own.map(function).collect()
}

/// `tool_choice`.
#[derive(Debug)]
pub(super) enum Choice {
    Any(tools::Choice),
    /// Of a type that is not supported.
    Other(String),
}

deserialize_by_shape!(Choice);

impl<'de> Shape<'de> for Choice {
    const WHAT: &'static str = "must be \"auto\", \"none\", \"required\" or \
                                {\"type\": \"function\", \"name\": …}";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        let choice = simple_choice(word).ok_or_else(refusal::<Self, E>);
        choice.map(|choice| Self::Any(choice.into()))
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let choice = Value::deserialize(MapAccessDeserializer::new(object))?;
        match (choice["type"].as_str(), &choice["name"]) {
            (Some("function"), Value::String(name)) => {
                Ok(Self::Any(ToolChoice::Named(name.clone()).into()))
            }
            (Some("allowed_tools"), _) => {
                let choice = allowed_tools(&choice).ok_or_else(refusal::<Self, A::Error>);
                choice.map(Self::Any)
            }
            (Some("function") | None, _) => Err(refusal::<Self, A::Error>()),
            (Some(kind), _) => Ok(Self::Other(kind.to_owned())),
        }
    }
}

impl Choice {
    pub(super) fn supported(self) -> Result<tools::Choice, Failure> {
        match self {
            Self::Any(choice) => Ok(choice),
            Self::Other(kind) => Err(not_supported(
                "tool_choice",
                format_args!(
                    "of type {} is not supported, only \"function\"",
                    quote(&kind)
                ),
            )),
        }
    }
}
