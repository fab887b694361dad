//! Numbers, flags and texts as clients write them.

use serde::de::{Error, SeqAccess};
use serde_json::Number;

use crate::shape::{List, Shape, deserialize_by_shape, refusal};

/// A finite number of 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Float(pub f32);

/// A whole number; clients also send `8192.0`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole(pub u32);

/// A number of tokens to look back; -1 is the whole context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window(pub u32);

/// The number of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(pub i32);

/// A number truncated to an integer, as Ollama reads integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integer(pub i64);

/// A seed. Larger ones are legal in OpenAI's API; their low bits are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub u32);

/// True or false.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag(pub bool);

/// A text.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub String);

/// Strings before which an answer ends.
#[derive(Clone, Debug)]
pub(crate) struct Stop(pub Vec<String>);

deserialize_by_shape!(Float Whole Window Token Integer Seed Flag Text Stop);

/// Converts a field's value to the type that it holds.
macro_rules! holds {
    ($($name:ident $inner:ty;)*) => {$(
        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}
holds!(Float f32; Whole u32; Window u32; Seed u32; Flag bool; Text String; Stop Vec<String>;);

impl From<List<Text>> for Vec<String> {
    fn from(list: List<Text>) -> Self {
        list.0.into_iter().map(|text| text.0).collect()
    }
}

impl Shape<'_> for Float {
    const WHAT: &'static str = "must be a number of usual size";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        #[expect(clippy::cast_possible_truncation, reason = "sampling needs no more")]
        let float = number.as_f64().map(|f| f as f32);
        // A value that is finite in 64 bits need not be in 32, and the engine accepts no
        // infinity.
        let float = float.filter(|f| f.is_finite());
        float.map(Self).ok_or_else(refusal::<Self, E>)
    }
}

impl Shape<'_> for Whole {
    const WHAT: &'static str = "must be a whole number";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked"
        )]
        match number.as_f64() {
            Some(f) if f >= 0.0 && f <= f64::from(u32::MAX) && f.fract() == 0.0 => {
                Ok(Self(f as u32))
            }
            _ => Err(refusal::<Self, E>()),
        }
    }
}

impl Shape<'_> for Window {
    const WHAT: &'static str = "must be a whole number, or -1";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        if number.as_f64() == Some(-1.0) {
            return Ok(Self(u32::MAX));
        }
        let whole = Whole::number::<E>(number);
        whole.map(|n| Self(n.0)).map_err(|_| refusal::<Self, E>())
    }
}

impl Shape<'_> for Token {
    const WHAT: &'static str = "must be the number of a token";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        #[expect(clippy::cast_possible_truncation, reason = "checked")]
        match number.as_f64() {
            Some(f)
                if f.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&f) =>
            {
                Ok(Self(f as i32))
            }
            _ => Err(refusal::<Self, E>()),
        }
    }
}

impl Shape<'_> for Integer {
    const WHAT: &'static str = "must be a whole number";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the largest do for larger ones"
        )]
        let truncated = number.as_f64().map(|f| f as i64);
        let integer = number.as_i64().or(truncated);
        integer.map(Self).ok_or_else(refusal::<Self, E>)
    }
}

impl Shape<'_> for Seed {
    const WHAT: &'static str = "must be a whole number";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
        let low = number.as_i64().map(|n| n.cast_unsigned() as u32);
        low.map(Self).ok_or_else(refusal::<Self, E>)
    }
}

impl Shape<'_> for Flag {
    const WHAT: &'static str = "must be true or false";

    fn flag<E: Error>(flag: bool) -> Result<Self, E> {
        Ok(Self(flag))
    }
}

impl Shape<'_> for Text {
    const WHAT: &'static str = "must be a string";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self(text.to_owned()))
    }
}

/// The most stop strings.
const STOP_MAX: usize = 16;

impl<'de> Shape<'de> for Stop {
    const WHAT: &'static str = "must be a string or a list of at most 16 strings";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self(vec![text.to_owned()]))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(texts) = List::<Text>::list(list)?;
        if texts.len() > STOP_MAX {
            return Err(refusal::<Self, A::Error>());
        }
        Ok(Self(List(texts).into()))
    }
}
