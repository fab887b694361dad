//! Reranking.

use hearth_proto::Failure;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::value;
use crate::read::{object, read};
use crate::scalars::{Flag, Text, Whole};
use crate::shape::{List, Shape, deserialize_by_shape, refusal};

/// A decoded request to score documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerankRequest {
    /// The model's name; empty for the default one.
    pub model: String,
    /// What the documents are compared with.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// How many of the best ones are wanted; `None`: all.
    pub top_n: Option<u32>,
    /// Whether the results contain the documents.
    pub return_documents: bool,
}

#[derive(Debug, Deserialize)]
struct RerankFields {
    model: Option<Text>,
    query: Option<Text>,
    documents: Option<List<Document>>,
    top_n: Option<Whole>,
    return_documents: Option<Flag>,
}

/// Decodes a request to `/v1/rerank`.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub fn decode_rerank(body: &[u8]) -> Result<RerankRequest, Failure> {
    let body = object(body)?;
    let fields: RerankFields = read(&body)?;
    let missing = |field, what| Failure::invalid_field(field, what);
    let query = fields.query;
    let documents = fields
        .documents
        .ok_or_else(|| missing("documents", "must be a list of texts"))?;
    Ok(RerankRequest {
        model: fields.model.map(Into::into).unwrap_or_default(),
        query: query
            .ok_or_else(|| missing("query", "must be a string"))?
            .into(),
        documents: documents.0.into_iter().map(|d| d.0).collect(),
        top_n: fields.top_n.map(Into::into),
        return_documents: fields.return_documents.is_some_and(Into::into),
    })
}

/// A document: a text, or an object with one.
#[derive(Debug)]
struct Document(String);

#[derive(Debug, Deserialize)]
struct DocumentFields {
    text: Option<Text>,
}

deserialize_by_shape!(Document);

impl<'de> Shape<'de> for Document {
    const WHAT: &'static str = "must be a string or an object with a `text`";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self(text.to_owned()))
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let fields = DocumentFields::deserialize(MapAccessDeserializer::new(object))?;
        let text = fields.text.ok_or_else(refusal::<Self, A::Error>)?;
        Ok(Self(text.0))
    }
}

#[derive(Serialize)]
struct Response<'a> {
    model: &'a str,
    object: &'static str,
    usage: UsageBody,
    results: Vec<ResultBody<'a>>,
}

#[derive(Serialize)]
struct UsageBody {
    prompt_tokens: u32,
    total_tokens: u32,
}

#[derive(Serialize)]
struct ResultBody<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentBody<'a>>,
}

#[derive(Serialize)]
struct DocumentBody<'a> {
    text: &'a str,
}

/// The response: the documents by their place in the request with their scores, in this order.
/// With `documents`, each result contains its text.
pub fn rerank_response(
    model: &str,
    tokens: u32,
    results: &[(usize, f32)],
    documents: Option<&[String]>,
) -> Value {
    let text = |index: usize| documents?.get(index).map(|text| DocumentBody { text });
    let result = |(index, score): &(usize, f32)| ResultBody {
        index: *index,
        relevance_score: *score,
        document: text(*index),
    };
    value(&Response {
        model,
        object: "list",
        usage: UsageBody {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
        results: results.iter().map(result).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<RerankRequest, Failure> {
        decode_rerank(body.to_string().as_bytes())
    }

    #[test]
    fn documents_are_texts_or_objects() {
        let request = decode(&json!({
            "model": "m", "query": "q", "documents": ["a", {"text": "b", "id": 7}],
            "top_n": 1.0, "return_documents": true, "max_chunks_per_doc": 3,
        }));
        let expected = RerankRequest {
            model: "m".into(),
            query: "q".into(),
            documents: vec!["a".into(), "b".into()],
            top_n: Some(1),
            return_documents: true,
        };
        assert_eq!(request, Ok(expected));
        let least = decode(&json!({"query": "q", "documents": [], "top_n": null})).unwrap();
        assert_eq!((least.top_n, least.return_documents), (None, false));
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": 1, "documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": "a"}), "documents"),
            (json!({"query": "q", "documents": ["a", 1]}), "documents[1]"),
            (json!({"query": "q", "documents": [{}]}), "documents[0]"),
            (
                json!({"query": "q", "documents": [{"text": 1}]}),
                "documents[0].text",
            ),
            (
                json!({"query": "q", "documents": ["a"], "top_n": -1}),
                "top_n",
            ),
            (
                json!({"query": "q", "documents": ["a"], "return_documents": 1}),
                "return_documents",
            ),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
        }
    }

    #[test]
    fn fields_are_those_of_llama_server() {
        let documents = ["a".to_owned(), "b".to_owned()];
        let results = [(1, 0.5), (0, -2.0)];
        let plain = json!({
            "model": "m", "object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9},
            "results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": -2.0}],
        });
        assert_eq!(rerank_response("m", 9, &results, None), plain);
        let whole = rerank_response("m", 9, &results, Some(&documents));
        assert_eq!(whole["results"][0]["document"], json!({"text": "b"}));
    }
}
