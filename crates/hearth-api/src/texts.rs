//! One text or several: prompts of completions, inputs of embeddings.

use hearth_proto::{Failure, FailureKind};
use serde::de::{Error, SeqAccess};
use serde_json::Number;

use crate::scalars::Whole;
use crate::shape::{List, Shape, deserialize_by_shape, refusal};

/// One text, or a list.
#[derive(Debug)]
pub(crate) enum Texts {
    One(String),
    Several(Vec<String>),
    /// Lists of tokens.
    Tokens(Vec<Vec<i32>>),
}

deserialize_by_shape!(Texts);

impl<'de> Shape<'de> for Texts {
    const WHAT: &'static str = "must be a string, a list of tokens, or a list of either";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::One(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let (mut texts, mut tokens, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(item) = list.next_element()? {
            match item {
                Item::Text(text) => texts.push(text),
                Item::Token(token) => tokens.push(token),
                Item::Tokens(list) => lists.push(list),
            }
        }
        match (texts.is_empty(), tokens.is_empty(), lists.is_empty()) {
            (_, true, true) => Ok(Self::Several(texts)),
            (true, false, true) => Ok(Self::Tokens(vec![tokens])),
            (true, true, false) => Ok(Self::Tokens(lists)),
            _ => Err(refusal::<Self, A::Error>()),
        }
    }
}

impl Texts {
    /// The texts of the field `input`, where tokens are not accepted.
    pub(crate) fn input(self) -> Result<Vec<String>, Failure> {
        match self {
            Self::One(text) => Ok(vec![text]),
            Self::Several(texts) => Ok(texts),
            Self::Tokens(_) => Err(Failure::of_field(
                FailureKind::NotSupported,
                "input",
                "as token numbers is not supported: send the text",
            )),
        }
    }
}

/// A member of a list.
#[derive(Debug)]
enum Item {
    Text(String),
    Token(i32),
    Tokens(Vec<i32>),
}

deserialize_by_shape!(Item);

impl<'de> Shape<'de> for Item {
    const WHAT: &'static str = "must be a string, a token or a list of tokens";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::Text(text.to_owned()))
    }

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        Token::number(number).map(|token| Self::Token(token.0))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(tokens) = List::<Token>::list(list)?;
        Ok(Self::Tokens(tokens.into_iter().map(|t| t.0).collect()))
    }
}

/// A token's number in the vocabulary.
#[derive(Debug)]
struct Token(i32);

deserialize_by_shape!(Token);

impl Shape<'_> for Token {
    const WHAT: &'static str = "must be a token of the vocabulary, a whole number";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        let whole = Whole::number::<E>(number).ok();
        let token = whole.and_then(|whole| i32::try_from(whole.0).ok());
        token.map(Self).ok_or_else(refusal::<Self, E>)
    }
}
