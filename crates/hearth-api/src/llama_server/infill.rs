//! Filling in text: `/infill`.

use hearth_proto::{Failure, FailureKind, Infill, Prompt, Snippet};
use serde::Deserialize;

use super::completion::{CompletionRequest, bound};
use crate::openai::common;
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
pub fn decode_infill(body: &[u8]) -> Result<CompletionRequest, Failure> {
    let body = object(body)?;
    let mut fields: InfillFields = read(&body)?;
    let bound = bound(fields.n_predict.take());
    let mut request = CompletionRequest::without_answers(&body, bound)?;
    let prompt = Prompt::Infill(fields.texts()?.into());
    let options = common(&body, Prompt::default())?;
    request.add(&options, &prompt, bound, None);
    if request.submissions.len() != 1 {
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            "n",
            "must be 1: send a request for each answer",
        ));
    }
    Ok(request)
}

impl InfillFields {
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

#[cfg(test)]
mod tests {
    use hearth_proto::GenerateRequest;
    use serde_json::{Value, json};

    use super::*;

    fn only(mut request: CompletionRequest) -> GenerateRequest {
        assert!(request.submissions.len() == 1 && !request.is_list);
        request.submissions.remove(0).request
    }

    fn decode(body: &Value) -> Result<CompletionRequest, Failure> {
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
        let request = only(request);
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
            (
                json!({"input_prefix": "", "input_suffix": "", "n_predict": 0}),
                Some(1),
            ),
        ] {
            let request = only(decode(&body).unwrap());
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
            (with("n_predict", json!("x")), "n_predict"),
            (with("n", json!(2)), "n"),
            (with("top_p", json!(7)), "top_p"),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
        }
    }
}
