//! Completions in llama-server's own form: requests to `/completion`.

use hearth_proto::{Failure, FailureKind, Prompt, Sampling, Submission};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::prompts::{Prompts, prompts};
use super::settings::settings;
use crate::openai::{ChatRequest, common};
use crate::read::{object, read};
use crate::scalars::{Flag, Integer, Text, Whole};
use crate::shape::List;
use crate::timings::{Reports, reports};

/// As many likely tokens as the engine reports.
const PROBS_MAX: u32 = 20;
/// The most answers to one request: each takes a place in the queue.
const ANSWERS_MAX: usize = 64;

/// A decoded request to `/completion`.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// What to do: one for each answer.
    pub submissions: Vec<Submission>,
    /// Whether the response is a list.
    pub is_list: bool,
    /// Whether to stream.
    pub stream: bool,
    /// The form of the response.
    pub form: CompletionForm,
}

/// The form of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompletionForm {
    /// What a stream reports besides the answer.
    pub reports: Reports,
    /// Whether an answer that is not streamed has its tokens.
    pub return_tokens: bool,
    /// The fields of the response, as paths with `/`; empty: all.
    pub response_fields: Vec<String>,
    /// Whether only the prompt is wanted in the cache: the answer is empty.
    pub is_empty: bool,
}

#[derive(Debug, Deserialize)]
struct CompletionFields {
    n_predict: Option<Integer>,
    n_probs: Option<Whole>,
    /// The other name of `n_probs`.
    logprobs: Option<Whole>,
}

/// The form of the response.
#[derive(Debug, Deserialize)]
struct FormFields {
    post_sampling_probs: Option<Flag>,
    return_tokens: Option<Flag>,
    response_fields: Option<List<Text>>,
}

/// A bound on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The most tokens; `None` if the request does not say.
    pub(super) max_tokens: Option<u32>,
    /// Whether only the prompt is wanted in the cache.
    pub(super) is_empty: bool,
}

/// llama.cpp's name for `max_tokens`: below 0 there is no bound, and with 0 the prompt is
/// computed for a later request.
pub(super) fn bound(n_predict: Option<Integer>) -> Bound {
    match n_predict.map(|n| n.0) {
        None => Bound {
            max_tokens: None,
            is_empty: false,
        },
        Some(0) => Bound {
            // The engine has no request without an answer that waits for its prompt.
            max_tokens: Some(1),
            is_empty: true,
        },
        Some(n) => Bound {
            max_tokens: Some(u32::try_from(n).unwrap_or(u32::MAX)),
            is_empty: false,
        },
    }
}

/// Decodes a request to `/completion`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_completion(body: &[u8]) -> Result<CompletionRequest, Failure> {
    let body = object(body)?;
    let Prompts { list, are_several } = prompts("prompt", body.get("prompt"))?;
    let fields: CompletionFields = read(&body)?;
    let logprobs = logprobs(fields.n_probs, fields.logprobs)?;
    let bound = bound(fields.n_predict);
    let mut decoded = CompletionRequest::without_answers(&body, bound)?;
    decoded.is_list = are_several;
    let request = common(&body, Prompt::default())?;
    for prompt in list {
        decoded.add(&request, &prompt, bound, logprobs);
    }
    if decoded.submissions.len() > ANSWERS_MAX {
        return Err(Failure::invalid_field(
            "n",
            format_args!("for each prompt is too much: there may be {ANSWERS_MAX} answers"),
        ));
    }
    decoded.is_list |= decoded.submissions.len() > 1;
    Ok(decoded)
}

/// How many likely tokens to report for each chosen one; 0 and no number: report nothing.
fn logprobs(n_probs: Option<Whole>, logprobs: Option<Whole>) -> Result<Option<u8>, Failure> {
    let bounded = |name, number: Option<Whole>| match number {
        Some(number) if number.0 > PROBS_MAX => Err(Failure::invalid_field(
            name,
            format_args!("must be at most {PROBS_MAX}"),
        )),
        number => Ok(number.and_then(|number| u8::try_from(number.0).ok())),
    };
    let (probs, logprobs) = (bounded("n_probs", n_probs)?, bounded("logprobs", logprobs)?);
    Ok(probs.or(logprobs).filter(|number| *number > 0))
}

impl CompletionRequest {
    /// A request without prompts.
    pub(super) fn without_answers(
        body: &Map<String, Value>,
        bound: Bound,
    ) -> Result<Self, Failure> {
        let fields: FormFields = read(body)?;
        if fields.post_sampling_probs.is_some_and(Into::into) {
            return Err(Failure::of_field(
                FailureKind::NotSupported,
                "post_sampling_probs",
                "is not supported: probabilities are those before sampling",
            ));
        }
        Ok(Self {
            submissions: Vec::new(),
            is_list: false,
            stream: false,
            form: CompletionForm {
                reports: reports(body)?,
                return_tokens: fields.return_tokens.is_some_and(Into::into),
                response_fields: fields.response_fields.unwrap_or_default().into(),
                is_empty: bound.is_empty,
            },
        })
    }

    /// Adds the answers to a prompt, with the options and the form of this request.
    pub(super) fn add(
        &mut self,
        request: &ChatRequest,
        prompt: &Prompt,
        bound: Bound,
        logprobs: Option<u8>,
    ) {
        self.stream = request.stream;
        for index in 0..request.n {
            let mut submission = request.submission.clone();
            let generate = &mut submission.request;
            generate.prompt = prompt.clone();
            generate.logprobs = logprobs;
            generate.max_tokens = bound.max_tokens.or(generate.max_tokens);
            // As the candidates of one request.
            if let Some(seed) = &mut generate.sampling.seed {
                *seed = seed.wrapping_add(index);
            }
            self.submissions.push(submission);
        }
    }

    /// The settings of an answer, where `defaults` are those of its model.
    pub fn settings(&self, index: usize, defaults: &Sampling) -> Value {
        let Some(submission) = self.submissions.get(index) else {
            return Value::Null;
        };
        let timings_per_token = self.form.reports.timings_per_token;
        let mut told = settings(
            &submission.request,
            defaults,
            self.stream,
            timings_per_token,
        );
        if self.form.is_empty {
            told["n_predict"] = 0.into();
            told["max_tokens"] = 0.into();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::{Constraint, GenerateRequest, Reuse};
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<CompletionRequest, Failure> {
        decode_completion(body.to_string().as_bytes())
    }

    fn only(body: &Value) -> GenerateRequest {
        let mut request = decode(body).unwrap();
        assert_eq!(
            (request.submissions.len(), request.is_list),
            (1, false),
            "{body}"
        );
        request.submissions.remove(0).request
    }

    #[test]
    fn n_predict_bounds_the_answer() {
        for (n_predict, max_tokens) in [
            (json!(null), None),
            (json!(7), Some(7)),
            (json!(-1), Some(u32::MAX)),
            (json!(0), Some(1)),
        ] {
            let body = json!({"prompt": "a", "n_predict": n_predict});
            assert_eq!(only(&body).max_tokens, max_tokens, "{body}");
        }
        assert!(
            decode(&json!({"prompt": "a", "n_predict": 0}))
                .unwrap()
                .form
                .is_empty
        );
        let both = json!({"prompt": "a", "n_predict": 3, "max_tokens": 9});
        assert_eq!(only(&both).max_tokens, Some(3));
    }

    #[test]
    fn options_of_llama_server_are_read() {
        let body = json!({"prompt": "a", "cache_prompt": false, "id_slot": 1, "n_keep": 5,
            "t_max_predict_ms": 100, "min_keep": 2, "samplers": ["top_k"], "ignore_eos": true,
            "logit_bias": [[3, false]], "grammar": "root ::= \"a\"", "stop": ["x"],
            "n_probs": 4, "stream": true, "return_tokens": true, "timings_per_token": true,
            "return_progress": true, "response_fields": ["content"], "post_sampling_probs": false});
        let decoded = decode(&body).unwrap();
        assert!(decoded.stream);
        assert_eq!(decoded.submissions[0].request.reuse, Reuse::Denied);
        let form = CompletionForm {
            reports: Reports {
                timings_per_token: true,
                return_progress: true,
            },
            return_tokens: true,
            response_fields: vec!["content".into()],
            is_empty: false,
        };
        assert_eq!(decoded.form, form);
        let request = only(&body);
        assert_eq!((request.logprobs, request.predict_ms), (Some(4), Some(100)));
        assert_eq!(request.stop, ["x"]);
        assert_eq!(
            request.constraint,
            Some(Constraint::Gbnf("root ::= \"a\"".into()))
        );
        assert_eq!(
            (request.sampling.min_keep, request.sampling.ignore_eos),
            (Some(2), true)
        );
        assert_eq!(request.sampling.logit_bias.len(), 1);
        let schema = only(&json!({"prompt": "a", "json_schema": {"type": "integer"}}));
        assert!(matches!(
            schema.constraint,
            Some(Constraint::LenientSchema(_))
        ));
    }

    #[test]
    fn several_prompts_are_several_answers() {
        let request = decode(&json!({"prompt": ["a", [1, 2]], "n": 2, "seed": 5})).unwrap();
        assert!(request.is_list);
        let asked = request.submissions.iter().map(|submission| {
            let request = &submission.request;
            (request.prompt.clone(), request.sampling.seed)
        });
        let text = || Prompt::Text("a".into());
        let tokens = || Prompt::tokens(vec![1, 2]);
        assert_eq!(
            asked.collect::<Vec<_>>(),
            [
                (text(), Some(5)),
                (text(), Some(6)),
                (tokens(), Some(5)),
                (tokens(), Some(6))
            ]
        );
        let many = json!({"prompt": vec!["a"; 60], "n": 2});
        assert_eq!(decode(&many).unwrap_err().field.as_deref(), Some("n"));
        // A list of one prompt is answered with a list.
        assert!(decode(&json!({"prompt": ["a"]})).unwrap().is_list);
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (json!({}), "prompt"),
            (json!({"prompt": 1}), "prompt"),
            (json!({"prompt": "a", "n_predict": "x"}), "n_predict"),
            (
                json!({"prompt": "a", "t_max_predict_ms": "x"}),
                "t_max_predict_ms",
            ),
            (json!({"prompt": "a", "n_probs": 21}), "n_probs"),
            (json!({"prompt": "a", "n_probs": -1}), "n_probs"),
            (json!({"prompt": "a", "logprobs": 300}), "logprobs"),
            (json!({"prompt": "a", "stream": 1}), "stream"),
            (json!({"prompt": "a", "return_tokens": 1}), "return_tokens"),
            (
                json!({"prompt": "a", "timings_per_token": 1}),
                "timings_per_token",
            ),
            (
                json!({"prompt": "a", "return_progress": 1}),
                "return_progress",
            ),
            (
                json!({"prompt": "a", "response_fields": "content"}),
                "response_fields",
            ),
            (
                json!({"prompt": "a", "post_sampling_probs": true}),
                "post_sampling_probs",
            ),
            (json!({"prompt": "a", "top_p": 7}), "top_p"),
            (json!({"prompt": "a", "samplers": ["none"]}), "samplers"),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
        }
    }
}
