//! One text or several: prompts of completions, inputs of embeddings.

use hearth_proto::{Failure, FailureKind};
use serde::de::{Error, SeqAccess};
use serde_json::Value;

use crate::shape::{Shape, deserialize_by_shape, refusal};

/// One text, or a list.
#[derive(Debug)]
pub(crate) enum Texts {
    One(String),
    Several(Vec<String>),
    /// Token numbers, or lists of these, which are not supported.
    Tokens,
}

deserialize_by_shape!(Texts);

impl<'de> Shape<'de> for Texts {
    const WHAT: &'static str = "must be a string or a list of strings";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::One(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let (mut texts, mut has_tokens) = (Vec::new(), false);
        while let Some(item) = list.next_element()? {
            match item {
                Value::String(text) => texts.push(text),
                Value::Number(_) | Value::Array(_) => has_tokens = true,
                _ => return Err(refusal::<Self, A::Error>()),
            }
        }
        Ok(if has_tokens {
            Self::Tokens
        } else {
            Self::Several(texts)
        })
    }
}

impl Texts {
    /// The texts of the field `input`.
    pub(crate) fn input(self) -> Result<Vec<String>, Failure> {
        match self {
            Self::One(text) => Ok(vec![text]),
            Self::Several(texts) => Ok(texts),
            Self::Tokens => Err(Failure::of_field(
                FailureKind::NotSupported,
                "input",
                "as token numbers is not supported: send the text",
            )),
        }
    }
}
