//! Embeddings.

use hearth_proto::{EmbedInput, Failure};
use serde::Deserialize;
use serde::de::Error;

use crate::llama_server::inputs;
use crate::read::{object, read};
use crate::scalars::{Text, Whole};
use crate::shape::{Shape, deserialize_by_shape, refusal};

/// A decoded request for embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// One vector is wanted for each.
    pub texts: Vec<EmbedInput>,
    /// The model's name; empty for the default one.
    pub model: String,
    /// The length of a vector, at least one; `None`: the model's.
    pub dimensions: Option<u32>,
    /// Whether vectors are sent in base64, of floats with the low byte first.
    pub as_base64: bool,
}

#[derive(Debug, Deserialize)]
struct EmbeddingsFields {
    model: Option<Text>,
    encoding_format: Option<Encoding>,
    dimensions: Option<Whole>,
}

/// Decodes a request to `/v1/embeddings`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_embeddings(body: &[u8]) -> Result<EmbeddingsRequest, Failure> {
    let body = object(body)?;
    let fields: EmbeddingsFields = read(&body)?;
    let dimensions = fields.dimensions.map(Into::into);
    if dimensions == Some(0) {
        return Err(Failure::invalid_field("dimensions", "must be at least 1"));
    }
    Ok(EmbeddingsRequest {
        texts: inputs("input", body.get("input"))?,
        model: fields.model.map(Into::into).unwrap_or_default(),
        dimensions,
        as_base64: fields.encoding_format.is_some_and(|e| e.as_base64),
    })
}

#[derive(Debug)]
struct Encoding {
    as_base64: bool,
}

deserialize_by_shape!(Encoding);

impl Shape<'_> for Encoding {
    const WHAT: &'static str = "must be \"float\" or \"base64\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "float" => Ok(Self { as_base64: false }),
            "base64" => Ok(Self { as_base64: true }),
            _ => Err(refusal::<Self, E>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::FailureKind;
    use serde_json::{Value, json};

    use super::*;

    fn decode(body: &Value) -> Result<EmbeddingsRequest, Failure> {
        decode_embeddings(body.to_string().as_bytes())
    }

    #[test]
    fn input_is_one_text_or_several() {
        let one = decode(&json!({"input": "a", "model": null, "user": "u"})).unwrap();
        let expected = EmbeddingsRequest {
            texts: vec!["a".into()],
            model: String::new(),
            dimensions: None,
            as_base64: false,
        };
        assert_eq!(one, expected);
        let two = decode(
            &json!({"input": ["a", "b"], "model": "m", "encoding_format": "base64",
            "dimensions": 8.0}),
        )
        .unwrap();
        assert_eq!((two.texts.len(), two.dimensions), (2, Some(8)));
        assert!(two.as_base64 && two.model == "m");
    }

    #[test]
    fn errors_name_the_field() {
        use FailureKind::InvalidArgs;
        for (body, kind, field) in [
            (json!({}), InvalidArgs, "input"),
            (json!({"input": 1}), InvalidArgs, "input"),
            (json!({"input": [null]}), InvalidArgs, "input[0]"),
            (json!({"input": [1, 2.5]}), InvalidArgs, "input[1]"),
            (
                json!({"input": [[1], [-2, {}]]}),
                InvalidArgs,
                "input[1][1]",
            ),
            (json!({"input": [[1], []]}), InvalidArgs, "input[1]"),
            (
                json!({"input": "a", "dimensions": 0}),
                InvalidArgs,
                "dimensions",
            ),
            (
                json!({"input": "a", "encoding_format": "hex"}),
                InvalidArgs,
                "encoding_format",
            ),
            (
                json!({"input": "a", "dimensions": -1}),
                InvalidArgs,
                "dimensions",
            ),
            (json!({"input": "a", "model": 1}), InvalidArgs, "model"),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.kind, kind, "{body}");
            assert_eq!(failure.field.as_deref(), Some(field), "{body}");
        }
    }
}
