//! `format` and `think`: what an answer looks like.

use hearth_proto::{Constraint, Thinking};
use serde::Deserialize as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess};
use serde_json::Value;

use crate::shape::{Shape, deserialize_by_shape, refusal};

/// The constraint on the answer; an empty text is none.
#[derive(Debug)]
pub(super) struct Format(pub Option<Constraint>);

/// Whether the model reasons first.
#[derive(Debug)]
pub(super) struct Think(pub Thinking);

deserialize_by_shape!(Format Think);

impl<'de> Shape<'de> for Format {
    const WHAT: &'static str = "must be \"json\" or a JSON schema";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "" => Ok(Self(None)),
            "json" => Ok(Self(Some(Constraint::JsonObject))),
            _ => Err(refusal::<Self, E>()),
        }
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let schema = Value::deserialize(MapAccessDeserializer::new(object))?;
        Ok(Self(Some(Constraint::LenientSchema(schema))))
    }
}

impl Shape<'_> for Think {
    const WHAT: &'static str = "must be true, false, \"low\", \"medium\" or \"high\"";

    fn flag<E: Error>(flag: bool) -> Result<Self, E> {
        Ok(Self(if flag { Thinking::On } else { Thinking::Off }))
    }

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "low" => Ok(Self(Thinking::Low)),
            "medium" => Ok(Self(Thinking::Medium)),
            "high" | "max" => Ok(Self(Thinking::High)),
            _ => Err(refusal::<Self, E>()),
        }
    }
}
