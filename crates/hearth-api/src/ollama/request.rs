//! Requests into submissions.

use hearth_proto::{Failure, GenerateRequest, KeepAlive, Overflow, Prompt, Submission};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::form::{Format, Think};
use super::keep_alive::KeepAliveField;
use super::messages::{MessageFields, messages};
use super::options::{Options, options};
use crate::openai::Tools;
use crate::read::{object, read};
use crate::sampling::Class;
use crate::scalars::{Flag, Text, Whole};
use crate::shape::{List, Object};

/// The most likely tokens that a request may ask for in each place (Ollama's bound).
const TOP_LOGPROBS_MAX: u8 = 20;

/// A decoded request: what to do, and the form of the response.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do.
    pub submission: Submission,
    /// The model's name as the client has it; empty for the default one.
    pub name: String,
    /// Whether to stream.
    pub stream: bool,
    /// The keep-alive after the answer; `None`: as configured.
    pub keep_alive: Option<KeepAlive>,
    /// The request has no prompt: the model is only loaded or unloaded.
    pub is_empty: bool,
}

/// The name of a model, in all requests about one.
#[derive(Debug, Deserialize)]
pub(super) struct NameFields {
    model: Option<Text>,
    /// The older name of the field.
    name: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct StreamField {
    stream: Option<Flag>,
}

/// What chats and generating have in common.
#[derive(Debug, Deserialize)]
struct CommonFields {
    keep_alive: Option<KeepAliveField>,
    options: Option<Object<Map<String, Value>>>,
    format: Option<Format>,
    think: Option<Think>,
    priority: Option<Class>,
    truncate: Option<Flag>,
    logprobs: Option<Flag>,
    top_logprobs: Option<Whole>,
}

#[derive(Debug, Deserialize)]
struct ChatFields {
    messages: Option<List<Object<MessageFields>>>,
}

/// Decodes a request of `/api/chat`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_chat(body: &[u8]) -> Result<Request, Failure> {
    let body = object(body)?;
    let fields: ChatFields = read(&body)?;
    let messages = messages(fields.messages.unwrap_or_default().0)?;
    let tools = Tools::decode(&body)?;
    let is_empty = messages.is_empty();
    let prompt = Prompt::Chat {
        messages,
        tools: tools.list.clone(),
    };
    let mut request = common(&body, prompt)?;
    request.is_empty = is_empty;
    tools.apply(&mut request.submission.request);
    Ok(request)
}

impl NameFields {
    /// The name as the client has it; empty if there is none.
    pub(super) fn name(self) -> String {
        let model = self.model.filter(|name| !name.0.is_empty());
        model.or(self.name).map(Into::into).unwrap_or_default()
    }
}

/// Unlike in other APIs, streaming is the default.
pub(super) fn stream(body: &Map<String, Value>) -> Result<bool, Failure> {
    Ok(read::<StreamField>(body)?.stream.is_none_or(Into::into))
}

/// A request with what chats and generating have in common.
pub(super) fn common(body: &Map<String, Value>, prompt: Prompt) -> Result<Request, Failure> {
    let fields: CommonFields = read(body)?;
    let logprobs = logprobs(fields.logprobs, fields.top_logprobs)?;
    let Options {
        sampling,
        max_tokens,
        context_max,
        stop,
        lora,
    } = options(&fields.options.unwrap_or_default().0)?;
    let name = read::<NameFields>(body)?.name();
    let overflow = match fields.truncate {
        Some(Flag(false)) => Overflow::Error,
        None | Some(Flag(true)) => Overflow::TruncateMiddle,
    };
    Ok(Request {
        stream: stream(body)?,
        keep_alive: fields.keep_alive.map(|field| field.0),
        is_empty: false,
        submission: Submission {
            model: Some(super::name_of(&name).to_owned()),
            request: GenerateRequest {
                prompt,
                sampling,
                max_tokens,
                context_max,
                stop,
                lora,
                logprobs,
                constraint: fields.format.and_then(|format| format.0),
                constraint_field: Some("format"),
                thinking: fields.think.map(|think| think.0),
                priority: fields.priority.map(|class| class.0).unwrap_or_default(),
                overflow,
                ..GenerateRequest::default()
            },
            ..Submission::default()
        },
        name,
    })
}

/// Whether each token's probability is wanted, and that of how many others. As in Ollama, the
/// number alone asks for nothing.
fn logprobs(wanted: Option<Flag>, top: Option<Whole>) -> Result<Option<u8>, Failure> {
    let top = top.map_or(0, Into::into);
    let top = u8::try_from(top).ok().filter(|n| *n <= TOP_LOGPROBS_MAX);
    let top = top.ok_or_else(|| {
        let what = format!("must be at most {TOP_LOGPROBS_MAX}");
        Failure::invalid_field("top_logprobs", what)
    })?;
    Ok(wanted.is_some_and(Into::into).then_some(top))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hearth_proto::{Constraint, Message, Thinking};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn chat(body: &Value) -> Result<Request, Failure> {
        decode_chat(body.to_string().as_bytes())
    }

    fn conversation(request: Request) -> Vec<Message> {
        match request.submission.request.prompt {
            Prompt::Chat { messages, .. } => messages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_of_home_assistant_are_read() {
        let request = chat(&json!({
            "model": "small:latest", "stream": true, "options": {"num_ctx": 8192.0},
            "keep_alive": -1.0, "think": false, "tools":
                [{"type": "function", "function": {"name": "HassTurnOn"}}],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "on"},
                {"role": "assistant", "thinking": "Hm.", "tool_calls": [
                    {"function": {"name": "HassTurnOn", "arguments": {"name": "lamp"}}},
                    {"function": {"name": "HassTurnOff", "arguments": {}}}]},
                {"role": "tool", "content": "done"},
                {"role": "tool", "content": "also done"}],
        }));
        let request = request.unwrap();
        assert!(request.stream && !request.is_empty);
        assert_eq!(request.name, "small:latest");
        assert_eq!(request.submission.model.as_deref(), Some("small"));
        assert_eq!(request.keep_alive, Some(KeepAlive::Forever));
        let inner = &request.submission.request;
        assert_eq!(inner.thinking, Some(Thinking::Off));
        assert_eq!(inner.overflow, Overflow::TruncateMiddle);
        assert_eq!(inner.max_tokens, None);
        let messages = conversation(request);
        assert_eq!(
            messages[2].tool_calls[0],
            json!({"id": "000000001", "type": "function", "function":
                {"name": "HassTurnOn", "arguments": {"name": "lamp"}}})
        );
        let answered = |n: usize| {
            (
                messages[n].tool_call_id.as_deref(),
                messages[n].name.as_deref(),
            )
        };
        assert_eq!(answered(3), (Some("000000001"), Some("HassTurnOn")));
        assert_eq!(answered(4), (Some("000000002"), Some("HassTurnOff")));
    }

    #[test]
    fn tool_results_are_assigned_by_id_name_or_order() {
        let calls = json!([
            {"id": "a", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
            {"id": "b", "function": {"name": "g"}}]);
        for (answer, id, name) in [
            (json!({"tool_call_id": "b"}), Some("b"), Some("g")),
            (json!({"tool_name": "g"}), Some("b"), Some("g")),
            (json!({"name": "g"}), Some("b"), Some("g")),
            (json!({"tool_name": "h"}), Some("a"), Some("h")),
            (json!({"tool_call_id": "c"}), Some("c"), None),
            (json!({}), Some("a"), Some("f")),
        ] {
            let mut message = answer.clone();
            message["role"] = "tool".into();
            let body = json!({"messages": [{"role": "assistant", "tool_calls": calls}, message]});
            let messages = conversation(chat(&body).unwrap());
            let arguments = &messages[0].tool_calls[0]["function"]["arguments"];
            assert_eq!(arguments, &json!({"x": 1}));
            let told = &messages[1];
            assert_eq!(
                (told.tool_call_id.as_deref(), told.name.as_deref()),
                (id, name),
                "{answer}"
            );
        }
        // A result without a call stays as it is.
        let alone = chat(&json!({"messages": [{"role": "tool", "content": "x"}]}));
        assert_eq!(conversation(alone.unwrap())[0].tool_call_id, None);
    }

    #[test]
    fn a_request_without_messages_is_accepted() {
        for body in [
            json!({}),
            json!({"messages": []}),
            json!({"messages": null}),
        ] {
            assert!(chat(&body).unwrap().is_empty, "{body}");
        }
        let gone = chat(&json!({"model": "m", "keep_alive": 0})).unwrap();
        assert_eq!(gone.keep_alive, Some(KeepAlive::For(Duration::ZERO)));
    }

    #[test]
    fn format_and_think_are_read() {
        let ok = json!([{"role": "user", "content": "x"}]);
        let schema = json!({"type": "integer"});
        for (format, expected) in [
            (json!(null), None),
            (json!(""), None),
            (json!("json"), Some(Constraint::JsonObject)),
            (
                schema.clone(),
                Some(Constraint::LenientSchema(schema.clone())),
            ),
        ] {
            let request = chat(&json!({"messages": ok, "format": format})).unwrap();
            assert_eq!(request.submission.request.constraint, expected);
        }
        for (think, expected) in [
            (json!(null), None),
            (json!(true), Some(Thinking::On)),
            (json!("low"), Some(Thinking::Low)),
            (json!("medium"), Some(Thinking::Medium)),
            (json!("high"), Some(Thinking::High)),
        ] {
            let request = chat(&json!({"messages": ok, "think": think})).unwrap();
            assert_eq!(request.submission.request.thinking, expected);
        }
        for (truncate, overflow) in [
            (json!(null), Overflow::TruncateMiddle),
            (json!(true), Overflow::TruncateMiddle),
            (json!(false), Overflow::Error),
        ] {
            let request = chat(&json!({"messages": ok, "truncate": truncate})).unwrap();
            assert_eq!(request.submission.request.overflow, overflow);
        }
    }

    #[test]
    fn logprobs_and_num_ctx_are_read() {
        for (body, logprobs) in [
            (json!({}), None),
            (json!({"logprobs": false, "top_logprobs": 3}), None),
            (json!({"top_logprobs": 3}), None),
            (json!({"logprobs": true}), Some(0)),
            (json!({"logprobs": true, "top_logprobs": 20}), Some(20)),
        ] {
            let request = chat(&body).unwrap().submission.request;
            assert_eq!(request.logprobs, logprobs, "{body}");
        }
        let body = json!({"options": {"num_ctx": 77}});
        assert_eq!(
            chat(&body).unwrap().submission.request.context_max,
            Some(77)
        );
    }

    #[test]
    fn errors_name_the_field() {
        let user = |extra: Value| {
            let mut message = json!({"role": "user", "content": "x"});
            message
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            json!({"messages": [message]})
        };
        for (body, part) in [
            (json!([]), "JSON object"),
            (json!({"messages": "x"}), "`messages`"),
            (json!({"messages": [3]}), "`messages[0]` must be an object"),
            (json!({"messages": [{"content": "x"}]}), "`role`"),
            (json!({"messages": [{"role": ""}]}), "`role`"),
            (json!({"messages": [{"role": 3}]}), "`messages[0].role`"),
            (user(json!({"content": 3})), "`messages[0].content`"),
            (user(json!({"tool_calls": "x"})), "`messages[0].tool_calls`"),
            (user(json!({"images": ["aGk="]})), "`messages[0].images[0]`"),
            (json!({"model": 3}), "`model`"),
            (json!({"stream": "yes"}), "`stream`"),
            (json!({"format": "xml"}), "`format`"),
            (json!({"format": 3}), "`format`"),
            (json!({"think": "much"}), "`think`"),
            (json!({"think": 1}), "`think`"),
            (json!({"tools": [{}]}), "`tools`"),
            (json!({"keep_alive": "soon"}), "`keep_alive`"),
            (json!({"truncate": 1}), "`truncate`"),
            (json!({"logprobs": 1}), "`logprobs`"),
            (json!({"top_logprobs": 21}), "`top_logprobs`"),
            (json!({"top_logprobs": -1}), "`top_logprobs`"),
            (json!({"priority": "urgent"}), "interactive"),
            (json!({"options": "x"}), "`options`"),
            (json!({"options": {"top_k": []}}), "`options.top_k`"),
        ] {
            let error = chat(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = decode_chat(&body);
        }
    }
}
