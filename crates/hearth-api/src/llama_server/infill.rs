//! Filling in text: `/infill`.

use hearth_proto::{
    Answer, AnswerPart, Failure, FailureKind, FinishReason, Infill, Prompt, Snippet, TokenLogprob,
    Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Chunks;
use crate::encode::value;
use crate::openai::{ChatRequest, common};
use crate::read::{object, read};
use crate::scalars::{Integer, Text};
use crate::shape::{List, Object};

/// The name of a file without one, as in llama-server.
const NAMELESS: &str = "tmp";

#[derive(Debug, Deserialize)]
struct InfillFields {
    input_prefix: Option<Text>,
    input_suffix: Option<Text>,
    input_extra: Option<List<Object<SnippetFields>>>,
    prompt: Option<Text>,
    n_predict: Option<Integer>,
}

#[derive(Debug, Deserialize)]
struct SnippetFields {
    filename: Option<Text>,
    text: Option<Text>,
}

/// Decodes a request to `/infill`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_infill(body: &[u8]) -> Result<ChatRequest, Failure> {
    let body = object(body)?;
    let fields: InfillFields = read(&body)?;
    let max_tokens = fields.max_tokens()?;
    let mut request = common(&body, Prompt::Infill(fields.texts()?.into()))?;
    if request.n != 1 {
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            "n",
            "must be 1: send a request for each answer",
        ));
    }
    let limit = &mut request.submission.request.max_tokens;
    *limit = max_tokens.or(*limit);
    Ok(request)
}

impl InfillFields {
    /// llama.cpp's name for `max_tokens`; below 0 there is no limit.
    fn max_tokens(&self) -> Result<Option<u32>, Failure> {
        let limit = |n: &Integer| match n.0 {
            0 => Err(Failure::invalid_field(
                "n_predict",
                "must be at least 1, or -1 for no limit",
            )),
            n => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        };
        self.n_predict.as_ref().map(limit).transpose()
    }

    fn texts(self) -> Result<Infill, Failure> {
        let required = |name: &str, text: Option<Text>| {
            text.map(String::from)
                .ok_or_else(|| Failure::invalid_field(name, "must be a string"))
        };
        let extra = self.input_extra.unwrap_or_default().0;
        let snippet = |(at, Object(fields)): (usize, Object<SnippetFields>)| {
            let text = required(&format!("input_extra[{at}].text"), fields.text)?;
            let filename = fields.filename.map_or_else(|| NAMELESS.into(), Into::into);
            Ok(Snippet { filename, text })
        };
        let extra: Result<Vec<Snippet>, Failure> =
            extra.into_iter().enumerate().map(snippet).collect();
        Ok(Infill {
            prefix: required("input_prefix", self.input_prefix)?,
            suffix: required("input_suffix", self.input_suffix)?,
            prompt: self.prompt.map(Into::into).unwrap_or_default(),
            extra: Some(extra?),
        })
    }
}

/// A whole answer, or the end of a streamed one. Fields are sent in this order.
#[derive(Serialize)]
struct Completion<'a> {
    index: usize,
    content: &'a str,
    model: &'a str,
    stop: bool,
    stop_type: &'static str,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    tokens_cached: u32,
    truncated: bool,
    timings: Timings,
}

#[derive(Serialize)]
struct Timings {
    cache_n: u32,
    prompt_n: u32,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl Timings {
    fn new(usage: &Usage) -> Self {
        let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let prompt_n = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let (prompt, predicted) = (f64::from(prompt_n), f64::from(usage.completion_tokens));
        Self {
            cache_n: usage.cached_tokens,
            prompt_n,
            prompt_ms: usage.prefill_ms,
            prompt_per_token_ms: per(usage.prefill_ms, prompt),
            prompt_per_second: per(prompt * 1000.0, usage.prefill_ms),
            predicted_n: usage.completion_tokens,
            predicted_ms: usage.decode_ms,
            predicted_per_token_ms: per(usage.decode_ms, predicted),
            predicted_per_second: usage.tokens_per_second(),
        }
    }
}

fn completion(content: &str, model: &str, reason: FinishReason, usage: &Usage) -> Value {
    value(&Completion {
        index: 0,
        content,
        model,
        stop: true,
        stop_type: match reason {
            FinishReason::Stop => "eos",
            FinishReason::Length => "limit",
        },
        tokens_predicted: usage.completion_tokens,
        tokens_evaluated: usage.prompt_tokens,
        tokens_cached: usage.cached_tokens,
        truncated: false,
        timings: Timings::new(usage),
    })
}

/// The response with an answer.
pub fn infill_response(answer: &Answer) -> Value {
    completion(&answer.content, &answer.model, answer.reason, &answer.usage)
}

/// Encodes the parts of an answer.
#[derive(Debug)]
pub struct InfillStream {
    model: String,
    is_over: bool,
}

impl InfillStream {
    /// A stream for an answer of this model.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            is_over: false,
        }
    }
}

impl Chunks for InfillStream {
    fn token(&mut self, index: usize, parts: Vec<AnswerPart>, _: Vec<TokenLogprob>) -> Vec<Value> {
        let text = parts.into_iter().filter_map(|part| match part {
            AnswerPart::Content(text) => Some(text),
            AnswerPart::Reasoning(_) | AnswerPart::ToolCall(_) => None,
        });
        let content: String = text.collect();
        if content.is_empty() {
            return Vec::new();
        }
        let fields = [
            ("index", index.into()),
            ("content", content.into()),
            ("stop", false.into()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        vec![Value::Object(Map::from_iter(fields))]
    }

    fn finish(&mut self, _: usize, reason: FinishReason, usage: &Usage) -> Vec<Value> {
        self.is_over = true;
        vec![completion("", &self.model, reason, usage)]
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::RequestId;
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<ChatRequest, Failure> {
        decode_infill(body.to_string().as_bytes())
    }

    #[test]
    fn texts_and_options_are_read() {
        let request = decode(&json!({
            "input_prefix": "a", "input_suffix": "z", "prompt": "b", "n_predict": 7.0,
            "max_tokens": 9, "temperature": 0, "stop": ["\n"], "stream": true,
            "input_extra": [{"filename": "x.py", "text": "X"}, {"text": "Y"}],
        }));
        let request = request.unwrap();
        assert!(request.stream);
        let request = request.submission.request;
        assert_eq!(
            (request.max_tokens, request.sampling.temperature),
            (Some(7), Some(0.0))
        );
        assert_eq!(request.stop, ["\n"]);
        let snippet = |filename: &str, text: &str| Snippet {
            filename: filename.into(),
            text: text.into(),
        };
        let expected = Infill {
            prefix: "a".into(),
            suffix: "z".into(),
            prompt: "b".into(),
            extra: Some(vec![snippet("x.py", "X"), snippet("tmp", "Y")]),
        };
        assert_eq!(request.prompt, Prompt::Infill(expected.into()));
        for (body, most) in [
            (json!({"input_prefix": "", "input_suffix": ""}), None),
            (
                json!({"input_prefix": "", "input_suffix": "", "max_tokens": 3}),
                Some(3),
            ),
            (
                json!({"input_prefix": "", "input_suffix": "", "max_tokens": 3, "n_predict": -1}),
                Some(u32::MAX),
            ),
        ] {
            let request = decode(&body).unwrap().submission.request;
            assert_eq!(request.max_tokens, most, "{body}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        let with = |name: &str, value: Value| {
            let mut body = json!({"input_prefix": "a", "input_suffix": "z"});
            body[name] = value;
            body
        };
        for (body, field) in [
            (json!({"input_suffix": "z"}), "input_prefix"),
            (json!({"input_prefix": "a"}), "input_suffix"),
            (with("input_prefix", json!(1)), "input_prefix"),
            (with("input_extra", json!("x")), "input_extra"),
            (with("input_extra", json!([{}])), "input_extra[0].text"),
            (
                with(
                    "input_extra",
                    json!([{"text": "x"}, {"text": "y", "filename": 1}]),
                ),
                "input_extra[1].filename",
            ),
            (with("prompt", json!([1])), "prompt"),
            (with("n_predict", json!(0)), "n_predict"),
            (with("n_predict", json!("x")), "n_predict"),
            (with("n", json!(2)), "n"),
            (with("top_p", json!(7)), "top_p"),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
        }
    }

    #[test]
    fn fields_are_those_of_llama_server() {
        let usage = Usage {
            prompt_tokens: 10,
            cached_tokens: 6,
            completion_tokens: 4,
            prefill_ms: 8.0,
            decode_ms: 16.0,
            ..Usage::default()
        };
        let answer = Answer {
            content: "x".into(),
            reason: FinishReason::Length,
            usage,
            ..Answer::new(RequestId(1), "m")
        };
        let expected = json!({
            "index": 0, "content": "x", "model": "m", "stop": true, "stop_type": "limit",
            "tokens_predicted": 4, "tokens_evaluated": 10, "tokens_cached": 6,
            "truncated": false,
            "timings": {
                "cache_n": 6,
                "prompt_n": 4, "prompt_ms": 8.0, "prompt_per_token_ms": 2.0,
                "prompt_per_second": 500.0,
                "predicted_n": 4, "predicted_ms": 16.0, "predicted_per_token_ms": 4.0,
                "predicted_per_second": 250.0,
            },
        });
        assert_eq!(infill_response(&answer), expected);

        let mut stream = InfillStream::new("m");
        let part = |text: &str| vec![AnswerPart::Content(text.into())];
        assert_eq!(
            stream.token(0, part("x"), Vec::new()),
            [json!({"index": 0, "content": "x", "stop": false})]
        );
        assert_eq!(stream.token(0, Vec::new(), Vec::new()), [Value::Null; 0]);
        assert!(!stream.is_over());
        let end = stream.finish(0, FinishReason::Stop, &Usage::default());
        assert!(stream.is_over());
        assert_eq!(
            (&end[0]["content"], &end[0]["stop"], &end[0]["stop_type"]),
            (&json!(""), &json!(true), &json!("eos"))
        );
        assert_eq!(end[0]["timings"]["prompt_per_second"], 0.0);
    }
}
