//! Reading requests into structs, with errors that name the field.

use hearth_proto::Failure;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde_json::{Map, Value};

/// The most characters of a request that an error quotes at once.
const QUOTE_MAX: usize = 60;

/// A request's body. Structs are read from this, not from the bytes: of a field that occurs
/// twice the last one counts, where serde would refuse it.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::invalid("the request must be a JSON object")),
        Err(error) => Err(Failure::invalid(format!(
            "the request is not valid JSON: {error}"
        ))),
    }
}

/// Reads those fields of a request that the struct has.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub(crate) fn read<'de, T: Deserialize<'de>>(body: &'de Map<String, Value>) -> Result<T, Failure> {
    read_in("", body)
}

/// As [`read`], of an object at a place in the request.
pub(crate) fn read_in<'de, T: Deserialize<'de>>(
    place: &str,
    fields: &'de Map<String, Value>,
) -> Result<T, Failure> {
    serde_path_to_error::deserialize(fields.into_deserializer()).map_err(|e| failure(place, &e))
}

/// As [`read_in`], of any value.
pub(crate) fn read_value<'de, T: Deserialize<'de>>(
    place: &str,
    value: &'de Value,
) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|e| failure(place, &e))
}

fn failure(place: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let path = error.path().to_string();
    // The path of the value itself is a dot.
    let path = join(place, if path == "." { "" } else { &path });
    Failure::invalid_field(&path, error.inner())
}

/// The path of a field at a place in the request.
pub(crate) fn join(place: &str, path: &str) -> String {
    if place.is_empty() || path.is_empty() || path.starts_with('[') {
        format!("{place}{path}")
    } else {
        format!("{place}.{path}")
    }
}

/// A text of the request for an error: its beginning.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scalars::Whole;
    use crate::shape::{List, Object};

    #[derive(Debug, Deserialize)]
    struct Inner {
        number: Option<Whole>,
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        list: Option<List<Object<Inner>>>,
    }

    #[test]
    fn errors_name_the_field_and_quote_no_content() {
        let long = "x".repeat(10_000);
        for (body, field, what) in [
            (json!({"list": long}), "list", "must be a list"),
            (json!({"list": [null]}), "list[0]", "must be an object"),
            (
                json!({"list": [{}, {"number": [long]}]}),
                "list[1].number",
                "must be a whole number",
            ),
        ] {
            let failure = read::<Outer>(body.as_object().unwrap()).unwrap_err();
            assert_eq!(failure, Failure::invalid_field(field, what));
        }
        let failure = read_value::<List<Whole>>("texts", &json!([1, "2"])).unwrap_err();
        assert_eq!(failure.field.as_deref(), Some("texts[1]"));
        let failure = read_value::<List<Whole>>("texts", &json!(1)).unwrap_err();
        assert_eq!(failure.field.as_deref(), Some("texts"));
    }

    #[test]
    fn null_counts_as_absent_and_the_last_duplicate_key_wins() {
        let body = object(br#"{"list": 3, "list": [{"number": null}, {}], "other": {}}"#).unwrap();
        let outer: Outer = read(&body).unwrap();
        let numbers: Vec<_> = outer
            .list
            .unwrap()
            .0
            .into_iter()
            .map(|i| i.0.number)
            .collect();
        assert!(numbers.iter().all(Option::is_none) && numbers.len() == 2);
    }

    #[test]
    fn quoted_values_are_shortened() {
        assert_eq!(quote("a\""), r#""a\"""#);
        assert_eq!(quote(&"é".repeat(61)).chars().count(), QUOTE_MAX + 3);
    }
}
