//! JSON values that clients write in more than one form.
//!
//! serde's own error for a wrong type quotes the value, which may be megabytes of a request,
//! and does not say which forms are allowed.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A type that is read from some forms of JSON values: those whose methods it has.
pub(crate) trait Shape<'de>: Sized {
    /// What follows the field's name in an error, as `must be a list`.
    const WHAT: &'static str;

    fn flag<E: Error>(_: bool) -> Result<Self, E> {
        Err(refusal::<Self, E>())
    }

    fn number<E: Error>(_: &Number) -> Result<Self, E> {
        Err(refusal::<Self, E>())
    }

    fn text<E: Error>(_: &str) -> Result<Self, E> {
        Err(refusal::<Self, E>())
    }

    fn list<A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(refusal::<Self, A::Error>())
    }

    fn object<A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(refusal::<Self, A::Error>())
    }
}

/// The error for a value that the type cannot be read from.
pub(crate) fn refusal<'de, S: Shape<'de>, E: Error>() -> E {
    E::custom(S::WHAT)
}

/// Implements `Deserialize` by `Shape`.
macro_rules! deserialize_by_shape {
    ($($name:ident)*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::shape::deserialize(from)
            }
        }
    )*};
}
pub(crate) use deserialize_by_shape;

pub(crate) fn deserialize<'de, S: Shape<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<S, D::Error> {
    from.deserialize_any(ShapeVisitor(PhantomData))
}

struct ShapeVisitor<S>(PhantomData<S>);

impl<'de, S: Shape<'de>> Visitor<'de> for ShapeVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::WHAT)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<S, E> {
        S::flag(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<S, E> {
        S::number(&value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<S, E> {
        S::number(&value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<S, E> {
        S::number(&Number::from_f64(value).ok_or_else(refusal::<S, E>)?)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<S, E> {
        S::text(value)
    }

    fn visit_unit<E: Error>(self) -> Result<S, E> {
        Err(refusal::<S, E>())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        S::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<S, A::Error> {
        S::object(object)
    }
}

/// A list.
#[derive(Debug)]
pub(crate) struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for List<T> {
    const WHAT: &'static str = "must be a list";

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Self(items))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from)
    }
}

/// An object, read into a struct or a map.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Shape<'de> for Object<T> {
    const WHAT: &'static str = "must be an object";

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from)
    }
}
