//! `logit_bias`: makes tokens more or less likely.

use hearth_proto::Biased;
use serde::de::{MapAccess, SeqAccess};
use serde_json::{Map, Value};

use crate::shape::{List, Shape, deserialize_by_shape, refusal};

/// The most entries.
const ENTRIES_MAX: usize = 1024;

/// Tokens by number, as OpenAI writes them: `{"1734": -100}`; also texts, all of whose
/// tokens are meant, and llama.cpp's list of pairs: `[[1734, -5], ["no", false]]`. `false`
/// bans a token.
#[derive(Debug, Default)]
pub(super) struct LogitBias(pub Vec<(Biased, f32)>);

deserialize_by_shape!(LogitBias);

impl<'de> Shape<'de> for LogitBias {
    const WHAT: &'static str =
        "must map tokens, by number or text, to numbers from -100 to 100 or false";

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = object.next_entry()? {
            map.insert(key, value);
        }
        let entries = map.iter().map(|(key, value)| entry(key, value));
        bounded(map.len(), entries).ok_or_else(refusal::<Self, A::Error>)
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(pairs) = List::<Value>::list(list)?;
        bounded(pairs.len(), pairs.iter().map(pair)).ok_or_else(refusal::<Self, A::Error>)
    }
}

fn bounded(
    count: usize,
    entries: impl Iterator<Item = Option<(Biased, f32)>>,
) -> Option<LogitBias> {
    if count > ENTRIES_MAX {
        return None;
    }
    entries.collect::<Option<_>>().map(LogitBias)
}

fn entry(key: &str, value: &Value) -> Option<(Biased, f32)> {
    // A key that parses as a number is one, as in llama.cpp.
    let biased = match key.parse() {
        Ok(token) => Biased::Token(token),
        Err(_) => Biased::Text(key.to_owned()),
    };
    Some((biased, bias(value)?))
}

fn pair(value: &Value) -> Option<(Biased, f32)> {
    let [token, value] = value.as_array()?.as_slice() else {
        return None;
    };
    let biased = match token {
        Value::Number(number) => Biased::Token(number.as_i64()?.try_into().ok()?),
        Value::String(text) => Biased::Text(text.clone()),
        _ => return None,
    };
    Some((biased, bias(value)?))
}

fn bias(value: &Value) -> Option<f32> {
    if value == &Value::Bool(false) {
        return Some(-100.0);
    }
    let number = value.as_f64().filter(|bias| bias.abs() <= 100.0);
    #[expect(clippy::cast_possible_truncation, reason = "a logit needs no more")]
    number.map(|bias| bias as f32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(given: &Value) -> Result<Vec<(Biased, f32)>, hearth_proto::Failure> {
        let bias = crate::read::read_value::<Option<LogitBias>>("logit_bias", given)?;
        Ok(bias.unwrap_or_default().0)
    }

    #[test]
    fn biases_are_read_from_objects_and_pairs() {
        let token = |id, bias| (Biased::Token(id), bias);
        let text = |text: &str, bias| (Biased::Text(text.into()), bias);
        for (given, expected) in [
            (json!(null), vec![]),
            (json!({}), vec![]),
            (json!([]), vec![]),
            (
                json!({"7": -100, " no": 2}),
                vec![token(7, -100.0), text(" no", 2.0)],
            ),
            (
                json!([[7, 1.5], ["no", false]]),
                vec![token(7, 1.5), text("no", -100.0)],
            ),
            // A text of digits can be written only in a pair.
            (json!([["7", 1]]), vec![text("7", 1.0)]),
        ] {
            assert_eq!(read(&given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn invalid_biases_are_refused() {
        for given in [
            json!(1),
            json!("x"),
            json!({"7": 100.5}),
            json!({"7": true}),
            json!({"7": null}),
            json!([7]),
            json!([[7]]),
            json!([[7, 1, 2]]),
            json!([[1.5, 1]]),
            json!([[99_999_999_999_u64, 1]]),
            json!([[null, 1]]),
            json!(vec![json!([1, 1]); ENTRIES_MAX + 1]),
        ] {
            let refused = read(&given).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("logit_bias"), "{given}");
        }
    }
}
