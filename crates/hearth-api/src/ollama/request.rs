//! Requests into submissions.

use hearth_proto::{
    Constraint, Failure, GenerateRequest, KeepAlive, Message, Overflow, Prompt, Submission,
    Thinking,
};
use serde_json::{Map, Value};

use super::keep_alive::keep_alive;
use super::messages::{messages, no_images, unsupported};
use super::options::{Options, options};
use crate::fields::{field, object, priority};
use crate::openai::Tools;

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

/// A decoded request for embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// The model's name as the client has it.
    pub name: String,
    /// `input`, or the older `prompt`.
    pub input: Value,
    /// Dimensions of a vector; `None`: all.
    pub dimensions: Option<u32>,
    /// The keep-alive after the answer; `None`: as configured.
    pub keep_alive: Option<KeepAlive>,
}

/// Decodes a request of `/api/chat`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_chat(body: &[u8]) -> Result<Request, Failure> {
    let body = object(body)?;
    let messages = match body.get("messages") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => messages(list)?,
        Some(_) => return Err(Failure::invalid_field("messages", "must be a list")),
    };
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

/// Decodes a request of `/api/generate`.
///
/// # Errors
/// As [`decode_chat`].
pub fn decode_generate(body: &[u8]) -> Result<Request, Failure> {
    let body = object(body)?;
    let text = |name| Ok::<_, Failure>(field(&body, name).text()?.unwrap_or_default());
    let (prompt, system) = (text("prompt")?, text("system")?);
    let has_template = !text("template")?.is_empty();
    let is_raw = field(&body, "raw").flag()?.unwrap_or_default();
    let has_context = match body.get("context") {
        None | Some(Value::Null) => false,
        Some(Value::Array(context)) => !context.is_empty(),
        Some(_) => {
            return Err(Failure::invalid_field(
                "context",
                "must be a list of numbers",
            ));
        }
    };
    if !text("suffix")?.is_empty() {
        return Err(unsupported(
            "suffix",
            "text is not filled in between, leave it out",
        ));
    }
    no_images(&body)?;
    if is_raw && (has_template || has_context || !system.is_empty()) {
        return Err(Failure::invalid_field(
            "raw",
            "goes with `prompt` alone, not with `system`, `template` or `context`",
        ));
    }
    if has_template {
        return Err(unsupported(
            "template",
            "the model file's own is used; leave it out, or send the whole text as `prompt` with `raw`",
        ));
    }
    let is_empty = prompt.is_empty();
    // As Ollama does for a model without a template.
    let parts = [system.as_str(), prompt.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let base_text = parts.join("\n\n");
    let prompt = if is_raw {
        Prompt::Text(prompt)
    } else {
        let system = (!system.is_empty()).then(|| Message {
            role: "system".into(),
            content: system,
            ..Message::default()
        });
        Prompt::Chat {
            messages: system.into_iter().chain([Message::user(prompt)]).collect(),
            tools: Vec::new(),
        }
    };
    let mut request = common(&body, prompt)?;
    request.is_empty = is_empty;
    request.submission.base_text = Some(base_text);
    Ok(request)
}

/// Decodes a request of `/api/embed` or `/api/embeddings`.
///
/// # Errors
/// As [`decode_chat`].
pub fn decode_embed(body: &[u8]) -> Result<Embed, Failure> {
    let body = object(body)?;
    options(&body)?;
    let input = body.get("input").or_else(|| body.get("prompt"));
    Ok(Embed {
        name: name(&body)?,
        input: input.cloned().unwrap_or_default(),
        dimensions: field(&body, "dimensions").whole()?,
        keep_alive: keep_alive(body.get("keep_alive"))?,
    })
}

/// Decodes a request about one model: its name, and whether to stream.
///
/// # Errors
/// As [`decode_chat`]; the name is required.
pub fn decode_name(body: &[u8], field_name: &'static str) -> Result<(String, bool), Failure> {
    let body = object(body)?;
    let named = if field_name == "model" {
        name(&body)?
    } else {
        field(&body, field_name).text()?.unwrap_or_default()
    };
    if named.is_empty() {
        return Err(Failure::invalid_field(field_name, "must name a model"));
    }
    Ok((named, stream(&body)?))
}

/// `model`; older clients send `name`.
fn name(body: &Map<String, Value>) -> Result<String, Failure> {
    let (model, older) = (field(body, "model").text()?, field(body, "name").text()?);
    let name = model.filter(|name| !name.is_empty()).or(older);
    Ok(name.unwrap_or_default())
}

/// Unlike in other APIs, streaming is the default.
fn stream(body: &Map<String, Value>) -> Result<bool, Failure> {
    Ok(field(body, "stream").flag()?.unwrap_or(true))
}

fn common(body: &Map<String, Value>, prompt: Prompt) -> Result<Request, Failure> {
    let Options {
        sampling,
        max_tokens,
        stop,
    } = options(body)?;
    let name = name(body)?;
    Ok(Request {
        stream: stream(body)?,
        keep_alive: keep_alive(body.get("keep_alive"))?,
        is_empty: false,
        submission: Submission {
            model: Some(super::name_of(&name).to_owned()),
            request: GenerateRequest {
                prompt,
                sampling,
                max_tokens,
                stop,
                constraint: format(body.get("format"))?,
                thinking: think(body.get("think"))?,
                priority: priority(body)?.unwrap_or_default(),
                overflow: if field(body, "truncate").flag()?.unwrap_or(true) {
                    Overflow::TruncateMiddle
                } else {
                    Overflow::Error
                },
                ..GenerateRequest::default()
            },
            ..Submission::default()
        },
        name,
    })
}

/// The constraint on the answer.
fn format(value: Option<&Value>) -> Result<Option<Constraint>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) if word.is_empty() => Ok(None),
        Some(Value::String(word)) if word == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::LenientSchema(schema.clone()))),
        Some(_) => Err(Failure::invalid_field(
            "format",
            "must be \"json\" or a JSON schema",
        )),
    }
}

fn think(value: Option<&Value>) -> Result<Option<Thinking>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(Thinking::Off)),
        Some(Value::Bool(true)) => Ok(Some(Thinking::On)),
        Some(value) => match value.as_str() {
            Some("low") => Ok(Some(Thinking::Low)),
            Some("medium") => Ok(Some(Thinking::Medium)),
            Some("high" | "max") => Ok(Some(Thinking::High)),
            _ => Err(Failure::invalid_field(
                "think",
                "must be true, false, \"low\", \"medium\" or \"high\"",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn chat(body: &Value) -> Result<Request, Failure> {
        decode_chat(body.to_string().as_bytes())
    }

    fn generate(body: &Value) -> Result<Request, Failure> {
        decode_generate(body.to_string().as_bytes())
    }

    fn conversation(request: Request) -> Vec<Message> {
        match request.submission.request.prompt {
            Prompt::Chat { messages, .. } => messages,
            Prompt::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn what_home_assistant_sends() {
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
    fn answers_that_say_whose_they_are() {
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
    fn nothing_asked_is_no_mistake() {
        for body in [
            json!({}),
            json!({"messages": []}),
            json!({"messages": null}),
        ] {
            assert!(chat(&body).unwrap().is_empty, "{body}");
        }
        for body in [
            json!({}),
            json!({"prompt": "", "system": "x"}),
            json!({"prompt": "", "raw": true, "keep_alive": 0}),
        ] {
            assert!(generate(&body).unwrap().is_empty, "{body}");
        }
        let gone = chat(&json!({"model": "m", "keep_alive": 0})).unwrap();
        assert_eq!(gone.keep_alive, Some(KeepAlive::For(Duration::ZERO)));
    }

    #[test]
    fn generating() {
        let request = generate(&json!({
            "model": "m", "prompt": "Hi", "system": "Be brief.", "stream": false, "raw": false,
            "template": "", "suffix": "", "context": [1, 2], "images": [], "format": "json",
        }));
        let request = request.unwrap();
        assert!(!request.stream && !request.is_empty);
        assert_eq!(
            request.submission.request.constraint,
            Some(Constraint::JsonObject)
        );
        let messages = conversation(request);
        let told: Vec<_> = messages
            .iter()
            .map(|m| (m.role.as_str(), m.content.as_str()))
            .collect();
        assert_eq!(told, [("system", "Be brief."), ("user", "Hi")]);
        let raw = generate(&json!({"prompt": "Hi", "raw": true})).unwrap();
        assert_eq!(raw.submission.request.prompt, Prompt::Text("Hi".into()));
    }

    #[test]
    fn forms_and_thoughts() {
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
    fn mistakes_are_named() {
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
            (json!({"messages": [3]}), "objects"),
            (json!({"messages": [{"content": "x"}]}), "`role`"),
            (json!({"messages": [{"role": ""}]}), "`role`"),
            (json!({"messages": [{"role": 3}]}), "`role`"),
            (user(json!({"content": 3})), "`content`"),
            (user(json!({"tool_calls": "x"})), "`tool_calls`"),
            (user(json!({"images": ["aGk="]})), "`images`"),
            (json!({"model": 3}), "`model`"),
            (json!({"stream": "yes"}), "`stream`"),
            (json!({"format": "xml"}), "`format`"),
            (json!({"format": 3}), "`format`"),
            (json!({"think": "much"}), "`think`"),
            (json!({"think": 1}), "`think`"),
            (json!({"tools": [{}]}), "`tools`"),
            (json!({"keep_alive": "soon"}), "`keep_alive`"),
            (json!({"truncate": 1}), "`truncate`"),
            (json!({"priority": "urgent"}), "interactive"),
            (json!({"options": "x"}), "`options`"),
        ] {
            let error = chat(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
        for (body, part) in [
            (json!({"prompt": ["x"]}), "`prompt`"),
            (json!({"prompt": "x", "suffix": "y"}), "`suffix`"),
            (
                json!({"prompt": "x", "template": "{{ .Prompt }}"}),
                "`template`",
            ),
            (json!({"prompt": "x", "raw": true, "system": "y"}), "`raw`"),
            (json!({"prompt": "x", "raw": true, "context": [1]}), "`raw`"),
            (json!({"prompt": "x", "raw": "yes"}), "`raw`"),
            (json!({"prompt": "x", "context": "y"}), "`context`"),
            (json!({"prompt": "x", "images": ["aGk="]}), "`images`"),
        ] {
            let error = generate(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn one_model_is_named() {
        let read = |body: Value, name| decode_name(body.to_string().as_bytes(), name);
        let named = |name: &str, streams| Ok((name.to_owned(), streams));
        assert_eq!(read(json!({"model": "m"}), "model"), named("m", true));
        assert_eq!(
            read(json!({"model": "", "name": "n", "stream": false}), "model"),
            named("n", false)
        );
        assert_eq!(read(json!({"source": "s"}), "source"), named("s", true));
        for body in [json!({}), json!({"model": ""}), json!({"model": 3})] {
            let error = read(body.clone(), "model").unwrap_err();
            assert!(error.message.contains("`model`"), "{body}: {error}");
        }
        assert!(read(json!({"model": "m"}), "destination").is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = decode_chat(&body);
            _ = decode_generate(&body);
            _ = decode_embed(&body);
        }
    }
}
