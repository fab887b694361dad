//! Embeddings in llama-server's own form: `/embedding`.

use hearth_proto::{EmbedInput, Failure, FailureKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::prompts::inputs;
use crate::read::{object, read};
use crate::scalars::{Integer, Text};

/// Vectors of length one by the Euclidean norm, which all are.
const EUCLIDEAN: i64 = 2;

/// Texts to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The texts.
    pub texts: Vec<EmbedInput>,
    /// The model; `None`: the loaded or default one.
    pub model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct EmbeddingFields {
    model: Option<Text>,
    embd_normalize: Option<Integer>,
}

/// Decodes a request to `/embedding`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_embedding(body: &[u8]) -> Result<EmbeddingRequest, Failure> {
    let body = object(body)?;
    let fields: EmbeddingFields = read(&body)?;
    if fields
        .embd_normalize
        .is_some_and(|norm| norm.0 != EUCLIDEAN)
    {
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            "embd_normalize",
            format_args!("must be {EUCLIDEAN}: vectors have length one"),
        ));
    }
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let texts = match (given("content"), given("input")) {
        (None, Some(input)) => inputs("input", Some(input))?,
        (content, _) => inputs("content", content)?,
    };
    Ok(EmbeddingRequest {
        texts,
        model: fields.model.map(Into::into),
    })
}

/// The response with the vectors of the texts: a list of one vector for each.
pub fn embedding_response(vectors: &[Vec<f32>]) -> Value {
    let one = |(index, vector): (usize, &Vec<f32>)| json!({"index": index, "embedding": [vector]});
    vectors.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(body: &Value) -> Result<EmbeddingRequest, Failure> {
        decode_embedding(body.to_string().as_bytes())
    }

    #[test]
    fn texts_are_read_by_both_names() {
        for (body, texts) in [
            (json!({"content": "a"}), vec!["a"]),
            (
                json!({"content": ["a", "b"], "embd_normalize": 2}),
                vec!["a", "b"],
            ),
            (json!({"input": ["a"]}), vec!["a"]),
        ] {
            let texts: Vec<EmbedInput> = texts.into_iter().map(Into::into).collect();
            assert_eq!(decode(&body).unwrap().texts, texts, "{body}");
        }
        let named = decode(&json!({"content": "a", "model": "m"})).unwrap();
        assert_eq!(named.model.as_deref(), Some("m"));
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (json!({}), "content"),
            (json!({"content": 1}), "content"),
            (json!({"input": 1}), "input"),
            (json!({"content": [1, {}]}), "content[1]"),
            (
                json!({"content": "a", "embd_normalize": -1}),
                "embd_normalize",
            ),
            (json!({"content": "a", "model": 1}), "model"),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn vectors_are_listed_with_their_place() {
        assert_eq!(
            embedding_response(&[vec![1.0, 0.0], vec![0.0, 1.0]]),
            json!([
                {"index": 0, "embedding": [[1.0, 0.0]]},
                {"index": 1, "embedding": [[0.0, 1.0]]},
            ])
        );
    }
}
