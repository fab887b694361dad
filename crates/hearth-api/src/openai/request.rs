//! Requests into submissions.

use hearth_proto::{Failure, FailureKind, Prompt, Submission};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::extras;
use super::messages::{Messages, messages};
use super::options::decode_options;
use super::tools::Tools;
use crate::read::{object, read};
use crate::scalars::{Flag, Integer, Whole};
use crate::timings::{Reports, reports};

/// OpenAI's own limit.
const TOP_LOGPROBS_MAX: u8 = 20;
/// The most candidates for one request: each takes a place in the queue.
const CHOICES_MAX: u32 = 8;

/// A decoded request: what to do, and the form of the response.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// What to do.
    pub submission: Submission,
    /// Number of candidates.
    pub n: u32,
    /// Whether to stream.
    pub stream: bool,
    /// Whether the stream ends with a chunk of usage figures.
    pub include_usage: bool,
    /// What else the stream reports.
    pub reports: Reports,
}

impl ChatRequest {
    /// The request, if it has only one candidate.
    ///
    /// # Errors
    /// `NotSupported`, naming `n`.
    pub fn single(self) -> Result<Self, Failure> {
        if self.n == 1 {
            return Ok(self);
        }
        Err(Failure::of_field(
            FailureKind::NotSupported,
            "n",
            "other than 1 works with Chat and over HTTP only: submit the request so often",
        ))
    }
}

#[derive(Debug, Deserialize)]
struct ChatFields {
    messages: Option<Messages>,
    logprobs: Option<Flag>,
    top_logprobs: Option<Whole>,
    /// llama.cpp's name for both in one.
    n_probs: Option<Whole>,
}

/// The form of the response, of chats and completions.
#[derive(Debug, Deserialize)]
struct ResponseFields {
    n: Option<Whole>,
    stream: Option<Flag>,
    stream_options: Option<Value>,
    /// llama-server's bound on the time of an answer; none at 0 and below.
    t_max_predict_ms: Option<Integer>,
}

/// Decodes a chat-completions request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_chat(body: &[u8]) -> Result<ChatRequest, Failure> {
    let body = object(body)?;
    let mut fields: ChatFields = read(&body)?;
    let messages = messages(fields.messages.take().unwrap_or_default())?;
    if messages.is_empty() {
        return Err(Failure::invalid_field(
            "messages",
            "must be a list of at least one message",
        ));
    }
    let tools = Tools::decode(&body)?;
    let prompt = Prompt::Chat {
        messages,
        tools: tools.list.clone(),
    };
    let mut request = common(&body, prompt)?;
    tools.apply(&mut request.submission.request);
    extras::apply(&body, &mut request.submission.request)?;
    request.submission.request.logprobs = fields.logprobs()?;
    Ok(request)
}

/// The options, and the form of the response.
pub(crate) fn common(body: &Map<String, Value>, prompt: Prompt) -> Result<ChatRequest, Failure> {
    let fields: ResponseFields = read(body)?;
    let n = fields.n.map_or(1, Into::into);
    if !(1..=CHOICES_MAX).contains(&n) {
        return Err(Failure::invalid_field(
            "n",
            format_args!("must be from 1 to {CHOICES_MAX}"),
        ));
    }
    let usage = fields.stream_options.as_ref().map(|o| &o["include_usage"]);
    let mut submission = decode_options(body)?.submission(prompt);
    let most_ms = fields.t_max_predict_ms.filter(|ms| ms.0 > 0);
    submission.request.predict_ms = most_ms.map(|ms| u32::try_from(ms.0).unwrap_or(u32::MAX));
    Ok(ChatRequest {
        n,
        stream: fields.stream.is_some_and(Into::into),
        include_usage: usage == Some(&Value::Bool(true)),
        reports: reports(body)?,
        submission,
    })
}

impl ChatFields {
    /// How many likely tokens to report for each chosen one; `None`: report nothing.
    fn logprobs(self) -> Result<Option<u8>, Failure> {
        let wanted = self.logprobs.is_some_and(Into::into);
        match (self.top_logprobs, self.n_probs.filter(|n| n.0 > 0)) {
            (Some(_), _) if !wanted => Err(Failure::invalid_field(
                "top_logprobs",
                "needs `logprobs` to be true",
            )),
            (Some(top), _) => at_most("top_logprobs", top, TOP_LOGPROBS_MAX).map(Some),
            (None, Some(probs)) => at_most("n_probs", probs, TOP_LOGPROBS_MAX).map(Some),
            (None, None) => Ok(wanted.then_some(0)),
        }
    }
}

/// A number of likely tokens.
pub(super) fn at_most(field: &str, number: Whole, most: u8) -> Result<u8, Failure> {
    let number = u8::try_from(number.0).ok().filter(|n| *n <= most);
    number.ok_or_else(|| Failure::invalid_field(field, format_args!("must be at most {most}")))
}

#[cfg(test)]
mod tests {
    use hearth_proto::Biased;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(value: &Value) -> Result<ChatRequest, Failure> {
        decode_chat(value.to_string().as_bytes())
    }

    #[test]
    fn requests_of_known_clients_are_read() {
        let request = decode(&json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 3.0,
            "temperature": 0, "stop": "x", "seed": -1, "user": "conversation", "store": false,
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "ok"}],
        }))
        .unwrap();
        assert!(request.stream && request.include_usage);
        let s = request.submission.request;
        assert_eq!(
            (s.max_tokens, s.sampling.seed, s.stop.as_slice()),
            (Some(3), Some(u32::MAX), &["x".to_owned()][..])
        );
        let Prompt::Chat { messages, .. } = s.prompt else {
            panic!()
        };
        assert_eq!(
            (messages[0].role.as_str(), messages[0].content.as_str()),
            ("system", "ab")
        );
        assert_eq!(
            messages[1].tool_calls[0]["function"]["arguments"],
            json!({"x": 1})
        );
    }

    #[test]
    fn errors_name_the_field() {
        let ok = json!([{"role": "user", "content": "x"}]);
        for (body, part) in [
            (json!({}), "`messages`"),
            (json!({"messages": []}), "`messages`"),
            (json!({"messages": 3}), "`messages` must be a list"),
            (json!({"messages": [3]}), "`messages[0]` must be an object"),
            (json!({"messages": [{"content": "x"}]}), "`role`"),
            (
                json!({"messages": [{"role": "wizard", "content": "x"}]}),
                "`messages[0].role` is \"wizard\"",
            ),
            (
                json!({"messages": [{"role": "user", "content": 3}]}),
                "`messages[0].content`",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "`messages[0].content[0].image_url`",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}),
                "video_url",
            ),
            (json!({"messages": ok, "stream": "yes"}), "`stream`"),
            (json!({"messages": ok, "n": 0}), "`n`"),
            (json!({"messages": ok, "n": 9}), "from 1 to 8"),
            (json!({"messages": ok, "n": "2"}), "`n`"),
            (
                json!({"messages": ok, "top_logprobs": 1}),
                "`logprobs` to be true",
            ),
            (
                json!({"messages": ok, "logprobs": true, "top_logprobs": 21}),
                "at most 20",
            ),
            (json!({"messages": ok, "n_probs": 21}), "`n_probs`"),
            (json!({"messages": ok, "top_p": 1.5}), "top_p = 1.5"),
            (json!({"messages": ok, "tool_choice": 1}), "`tool_choice`"),
        ] {
            let error = decode(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
        assert!(
            decode_chat(b"{")
                .unwrap_err()
                .message
                .contains("not valid JSON")
        );
        assert!(
            decode_chat(b"[1]")
                .unwrap_err()
                .message
                .contains("JSON object")
        );
    }

    #[test]
    fn logprobs_and_logit_bias_are_read() {
        for (extra, logprobs, bias) in [
            (json!({}), None, vec![]),
            (json!({"logprobs": false, "logit_bias": null}), None, vec![]),
            (json!({"logprobs": true}), Some(0), vec![]),
            (json!({"n_probs": 3}), Some(3), vec![]),
            (json!({"n_probs": 0}), None, vec![]),
            (
                json!({"logprobs": true, "top_logprobs": 20, "logit_bias": {"7": -100, "0": 1.5}}),
                Some(20),
                vec![(Biased::Token(7), -100.0), (Biased::Token(0), 1.5)],
            ),
        ] {
            let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
            for (name, value) in extra.as_object().unwrap() {
                body[name] = value.clone();
            }
            let request = decode(&body).unwrap().submission.request;
            assert_eq!(
                (request.logprobs, request.sampling.logit_bias),
                (logprobs, bias),
                "{extra}"
            );
        }
    }

    #[test]
    fn the_number_of_answers_is_read() {
        for (n, expected) in [(json!(null), 1), (json!(1), 1), (json!(8.0), 8)] {
            let body = json!({"messages": [{"role": "user", "content": "x"}], "n": n});
            let request = decode(&body).unwrap();
            assert_eq!(request.n, expected);
            let single = request.single().map_err(|failure| failure.kind);
            assert_eq!(single.is_ok(), expected == 1);
            if let Err(kind) = single {
                assert_eq!(kind, FailureKind::NotSupported);
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in "[\\[\\]{}\":,a-z0-9.e-]{0,60}") {
            _ = decode_chat(body.as_bytes());
        }
    }
}
