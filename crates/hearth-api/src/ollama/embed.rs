//! Requests for embeddings, and requests about one model.

use hearth_proto::{Failure, KeepAlive};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keep_alive::KeepAliveField;
use super::options::options;
use super::request::{NameFields, stream};
use crate::read::{object, read};
use crate::scalars::{Flag, Text, Whole};
use crate::shape::Object;
use crate::texts::Texts;
use crate::vectors::shorten;

/// A decoded request for embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embed {
    /// The model's name as the client has it.
    pub name: String,
    /// One vector is wanted for each; none: the model is only loaded or unloaded.
    pub texts: Vec<String>,
    /// Dimensions of a vector; `None`: all.
    pub dimensions: Option<u32>,
    /// Whether a text that is too long is cut; `None`: as the endpoint does.
    pub truncate: Option<bool>,
    /// The keep-alive after the answer; `None`: as configured.
    pub keep_alive: Option<KeepAlive>,
}

#[derive(Debug, Deserialize)]
struct EmbedFields {
    input: Option<Texts>,
    /// The older name.
    prompt: Option<Texts>,
    dimensions: Option<Whole>,
    truncate: Option<Flag>,
    keep_alive: Option<KeepAliveField>,
    options: Option<Object<Map<String, Value>>>,
}

/// Decodes a request of `/api/embed` or `/api/embeddings`.
///
/// # Errors
/// As [`decode_chat`](super::decode_chat).
pub fn decode_embed(body: &[u8]) -> Result<Embed, Failure> {
    let body = object(body)?;
    let fields: EmbedFields = read(&body)?;
    options(&fields.options.unwrap_or_default().0)?;
    let texts = match fields.input.or(fields.prompt) {
        None => Vec::new(),
        Some(Texts::One(text)) if text.is_empty() => Vec::new(),
        Some(texts) => texts.input()?,
    };
    Ok(Embed {
        name: read::<NameFields>(&body)?.name(),
        texts,
        dimensions: fields.dimensions.map(Into::into).filter(|n| *n > 0),
        truncate: fields.truncate.map(Into::into),
        keep_alive: fields.keep_alive.map(|field| field.0),
    })
}

impl Embed {
    /// Shortens a vector to the wanted dimensions. What remains has length one again.
    pub fn shorten(&self, vector: &mut Vec<f32>) {
        if let Some(dimensions) = self.dimensions {
            shorten(vector, dimensions);
        }
    }
}

/// Decodes a request about one model: its name, and whether to stream.
///
/// # Errors
/// As [`decode_chat`](super::decode_chat); the name is required.
pub fn decode_model(body: &[u8]) -> Result<(String, bool), Failure> {
    let body = object(body)?;
    let name = needed(read::<NameFields>(&body)?.name(), "model")?;
    Ok((name, stream(&body)?))
}

#[derive(Debug, Deserialize)]
struct CopyFields {
    source: Option<Text>,
    destination: Option<Text>,
}

/// Decodes a request of `/api/copy`: the names of the model and of the copy.
///
/// # Errors
/// As [`decode_chat`](super::decode_chat); both names are required.
pub fn decode_copy(body: &[u8]) -> Result<(String, String), Failure> {
    let body = object(body)?;
    let fields: CopyFields = read(&body)?;
    let name = |text: Option<Text>, field| needed(text.map(Into::into).unwrap_or_default(), field);
    Ok((
        name(fields.source, "source")?,
        name(fields.destination, "destination")?,
    ))
}

fn needed(name: String, field: &str) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::invalid_field(field, "must name a model"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_model_name_is_read_and_required() {
        let read = |body: &Value| decode_model(body.to_string().as_bytes());
        let named = |name: &str, streams| Ok((name.to_owned(), streams));
        assert_eq!(read(&json!({"model": "m"})), named("m", true));
        assert_eq!(
            read(&json!({"model": "", "name": "n", "stream": false})),
            named("n", false)
        );
        for body in [json!({}), json!({"model": ""}), json!({"model": 3})] {
            let error = read(&body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("model"), "{body}: {error}");
        }
    }

    #[test]
    fn source_and_destination_of_a_copy_are_read() {
        let read = |body: Value| decode_copy(body.to_string().as_bytes());
        let both = read(json!({"source": "s", "destination": "d"}));
        assert_eq!(both, Ok(("s".to_owned(), "d".to_owned())));
        for (body, field) in [
            (json!({"destination": "d"}), "source"),
            (json!({"source": "s", "destination": ""}), "destination"),
            (json!({"source": ["s"], "destination": "d"}), "source"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn embed_reads_one_several_or_no_texts() {
        let read = |body: Value| decode_embed(body.to_string().as_bytes());
        for (body, expected) in [
            (json!({}), &[][..]),
            (json!({"input": ""}), &[]),
            (json!({"input": null, "prompt": "a"}), &["a"]),
            (json!({"input": ["a", "b"], "prompt": "c"}), &["a", "b"]),
            (json!({"input": [""]}), &[""]),
        ] {
            assert_eq!(read(body).unwrap().texts, expected);
        }
        for (body, field) in [
            (json!({"input": [1]}), "input"),
            (json!({"input": {}}), "input"),
            (json!({"options": 1}), "options"),
            (json!({"options": {"num_ctx": "x"}}), "options.num_ctx"),
            (json!({"dimensions": 0.5}), "dimensions"),
            (json!({"dimensions": -1}), "dimensions"),
            (json!({"truncate": "yes"}), "truncate"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn truncate_is_read() {
        let read = |body: Value| decode_embed(body.to_string().as_bytes()).unwrap().truncate;
        assert_eq!(read(json!({})), None);
        assert_eq!(read(json!({"truncate": false})), Some(false));
        assert_eq!(read(json!({"truncate": true})), Some(true));
    }

    #[test]
    fn zero_dimensions_are_all() {
        for (dimensions, read) in [(json!(null), None), (json!(0), None), (json!(3), Some(3))] {
            let body = json!({"dimensions": dimensions}).to_string();
            assert_eq!(decode_embed(body.as_bytes()).unwrap().dimensions, read);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = decode_embed(&body);
            _ = decode_copy(&body);
        }
    }
}
