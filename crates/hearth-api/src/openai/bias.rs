//! `logit_bias`: makes tokens more or less likely.

use hearth_proto::{Biased, Failure};
use serde_json::{Map, Value};

/// The most entries.
const ENTRIES_MAX: usize = 1024;

/// Tokens by number, as OpenAI writes them: `{"1734": -100}`; also texts, all of whose
/// tokens are meant, and llama.cpp's list of pairs: `[[1734, -5], ["no", false]]`. `false`
/// bans a token.
pub(super) fn logit_bias(value: Option<&Value>) -> Result<Vec<(Biased, f32)>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) if map.len() <= ENTRIES_MAX => object(map),
        Some(Value::Array(list)) if list.len() <= ENTRIES_MAX => list.iter().map(pair).collect(),
        Some(_) => Err(wrong()),
    }
}

fn wrong() -> Failure {
    Failure::invalid_field(
        "logit_bias",
        "must map tokens, by number or text, to numbers from -100 to 100 or false",
    )
}

fn object(map: &Map<String, Value>) -> Result<Vec<(Biased, f32)>, Failure> {
    let entries = map.iter().map(|(key, value)| {
        // A key that parses as a number is one, as in llama.cpp.
        let biased = match key.parse() {
            Ok(token) => Biased::Token(token),
            Err(_) => Biased::Text(key.clone()),
        };
        Ok((biased, bias(value)?))
    });
    entries.collect()
}

fn pair(value: &Value) -> Result<(Biased, f32), Failure> {
    let Some([token, value]) = value.as_array().map(Vec::as_slice) else {
        return Err(wrong());
    };
    let biased = match token {
        Value::Number(number) => {
            let token = number.as_i64().and_then(|id| i32::try_from(id).ok());
            Biased::Token(token.ok_or_else(wrong)?)
        }
        Value::String(text) => Biased::Text(text.clone()),
        _ => return Err(wrong()),
    };
    Ok((biased, bias(value)?))
}

fn bias(value: &Value) -> Result<f32, Failure> {
    if value == &Value::Bool(false) {
        return Ok(-100.0);
    }
    let number = value.as_f64().filter(|bias| bias.abs() <= 100.0);
    #[expect(clippy::cast_possible_truncation, reason = "a logit needs no more")]
    number.map(|bias| bias as f32).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_pairs_of_numbers_and_texts() {
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
            assert_eq!(logit_bias(Some(&given)), Ok(expected), "{given}");
        }
        assert_eq!(logit_bias(None), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_bias_is_refused() {
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
            let refused = logit_bias(Some(&given)).unwrap_err();
            assert!(refused.message.contains("`logit_bias`"), "{given}");
        }
    }
}
