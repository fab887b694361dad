//! Requests, translated to chats.

use hearth_proto::Failure;
use serde_json::{Map, Value, json};

use super::input::{messages, not_supported};
use crate::fields::{field, object};
use crate::openai::request::{ChatRequest, chat};

/// Fields that mean the same in a chat.
const SAME: [&str; 13] = [
    "model",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "seed",
    "stop",
    "parallel_tool_calls",
    "truncation",
    "priority",
];

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponsesRequest {
    /// The equivalent chat, with one candidate.
    pub chat: ChatRequest,
    /// The fields of the request that the response repeats.
    pub(super) echo: Map<String, Value>,
}

/// Decodes a request to `/v1/responses`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_responses(body: &[u8]) -> Result<ResponsesRequest, Failure> {
    let body = object(body)?;
    refuse_what_is_kept(&body)?;
    let mut said: Map<String, Value> = SAME
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), body.get(*name)?.clone())))
        .collect();
    let most = field(&body, "max_output_tokens").whole()?;
    if most == Some(0) {
        return Err(Failure::invalid_field(
            "max_output_tokens",
            "must be at least 1",
        ));
    }
    let effort = body.get("reasoning").and_then(|r| r.get("effort"));
    for (name, value) in [
        ("messages", messages(&body)?.into()),
        ("max_tokens", most.into()),
        ("tools", tools(body.get("tools"))?.into()),
        ("tool_choice", tool_choice(body.get("tool_choice"))?),
        ("response_format", format(&body)?),
        ("reasoning_effort", effort.cloned().unwrap_or_default()),
    ] {
        said.insert(name.to_owned(), value);
    }
    Ok(ResponsesRequest {
        chat: chat(&said)?,
        echo: echo(&body)?,
    })
}

/// Refuses fields that need stored state: nothing is stored from one request to the next.
fn refuse_what_is_kept(body: &Map<String, Value>) -> Result<(), Failure> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if body.get(name).is_some_and(|value| !value.is_null()) {
            return Err(not_supported(
                name,
                "is not supported, this service keeps nothing: send the whole conversation in \
                 `input`",
            ));
        }
    }
    if field(body, "background").flag()? == Some(true) {
        return Err(not_supported(
            "background",
            "is not supported, this service keeps nothing: wait for the answer, \
             or submit a job over D-Bus",
        ));
    }
    field(body, "store").flag().map(drop)
}

/// Functions, in the chat's form.
fn tools(value: Option<&Value>) -> Result<Vec<Value>, Failure> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Failure::invalid_field("tools", "must be a list")),
    };
    let function = |tool: &Value| match (tool.get("type").and_then(Value::as_str), tool) {
        (Some("function"), Value::Object(function)) => {
            let mut function = function.clone();
            function.remove("type");
            if !matches!(function.get("name"), Some(Value::String(name)) if !name.is_empty()) {
                return Err(Failure::invalid_field("tools", "must have a `name` each"));
            }
            Ok(json!({"type": "function", "function": function}))
        }
        (kind, _) => Err(not_supported(
            "tools",
            format!(
                "of type {:?} are not supported, only functions of the caller's own",
                kind.unwrap_or("?")
            ),
        )),
    };
    list.iter().map(function).collect()
}

fn tool_choice(value: Option<&Value>) -> Result<Value, Failure> {
    let wrong = || {
        Failure::invalid_field(
            "tool_choice",
            "must be \"auto\", \"none\", \"required\" or \
             {\"type\": \"function\", \"name\": …}",
        )
    };
    match value {
        None | Some(Value::Null) => Ok(Value::Null),
        Some(Value::String(word)) => match word.as_str() {
            "auto" | "none" | "required" => Ok(json!(word)),
            _ => Err(wrong()),
        },
        Some(choice) => match (choice["type"].as_str(), &choice["name"]) {
            (Some("function"), Value::String(name)) => {
                Ok(json!({"type": "function", "function": {"name": name}}))
            }
            (Some("function") | None, _) => Err(wrong()),
            (Some(kind), _) => Err(not_supported(
                "tool_choice",
                format!("of type {kind:?} is not supported, only \"function\""),
            )),
        },
    }
}

/// `text.format` as a `response_format`.
fn format(body: &Map<String, Value>) -> Result<Value, Failure> {
    let text = match body.get("text") {
        None | Some(Value::Null) => return Ok(Value::Null),
        Some(text @ Value::Object(_)) => text,
        Some(_) => return Err(Failure::invalid_field("text", "must be an object")),
    };
    match (&text["format"], text["format"]["type"].as_str()) {
        (Value::Null, _) => Ok(Value::Null),
        (format, Some("text" | "json_object")) => Ok(format.clone()),
        (format, Some("json_schema")) if !format["schema"].is_null() => {
            Ok(json!({"type": "json_schema", "json_schema": {"schema": format["schema"]}}))
        }
        (_, Some("json_schema")) => Err(Failure::invalid_field(
            "text.format",
            "of type \"json_schema\" needs a `schema`",
        )),
        (_, Some(other)) => Err(not_supported(
            "text.format",
            format!("{other:?} is not supported: use \"text\", \"json_object\" or \"json_schema\""),
        )),
        (_, None) => Err(Failure::invalid_field(
            "text.format",
            "must be an object with a `type`",
        )),
    }
}

/// The fields that a response repeats; clients expect them.
fn echo(body: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    match body.get("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::Object(pairs)) if pairs.values().all(Value::is_string) => {}
        Some(_) => {
            return Err(Failure::invalid_field(
                "metadata",
                "must map names to strings",
            ));
        }
    }
    let of = |(name, default): (&str, Value)| {
        let given = body.get(name).filter(|value| !value.is_null());
        (name.to_owned(), given.cloned().unwrap_or(default))
    };
    let fields = [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("temperature", Value::Null),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ];
    Ok(fields.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use hearth_proto::{Constraint, FailureKind, Overflow, Prompt, Thinking, ToolChoice};
    use proptest::prelude::*;

    use super::*;

    fn decode(body: &Value) -> Result<ResponsesRequest, Failure> {
        decode_responses(body.to_string().as_bytes())
    }

    #[test]
    fn a_request_is_the_chat_that_it_means() {
        let tool = json!({"type": "function", "name": "f", "description": "d",
            "parameters": {"type": "object"}, "strict": true});
        let request = decode(&json!({
            "model": "m", "input": "Hi", "instructions": "Be brief.", "stream": true,
            "max_output_tokens": 7, "temperature": 0, "top_p": 0.5, "store": true,
            "tools": [tool], "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": false, "truncation": "auto", "metadata": {"a": "b"},
            "text": {"format": {"type": "json_schema", "name": "n", "strict": true,
                "schema": {"type": "integer"}}, "verbosity": "low"},
            "reasoning": {"effort": "low"}, "previous_response_id": null, "include": [],
            "user": "u", "prompt_cache_key": "k", "n": 3,
        }))
        .unwrap();
        let chat = &request.chat;
        let generate = &chat.submission.request;
        assert_eq!((chat.n, chat.stream, generate.one_call), (1, true, true));
        let Prompt::Chat { messages, tools } = &generate.prompt else {
            panic!()
        };
        let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
        assert_eq!(roles, ["system", "user"]);
        assert_eq!(
            tools[0],
            json!({"type": "function", "function": {"name": "f", "description": "d",
                "parameters": {"type": "object"}, "strict": true}})
        );
        assert_eq!(generate.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(generate.max_tokens, Some(7));
        assert_eq!(generate.sampling.top_p, Some(0.5));
        assert_eq!(generate.overflow, Overflow::TruncateMiddle);
        assert_eq!(generate.thinking, Some(Thinking::Low));
        assert_eq!(
            generate.constraint,
            Some(Constraint::JsonSchema(json!({"type": "integer"})))
        );
        assert_eq!(request.echo["tools"], json!([tool]));
        assert_eq!(request.echo["metadata"], json!({"a": "b"}));
        let plain = decode(&json!({"input": "Hi"})).unwrap();
        assert_eq!(plain.echo["text"]["format"]["type"], "text");
        assert_eq!(plain.echo["parallel_tool_calls"], true);
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        use FailureKind::{InvalidArgs, NotSupported};
        for (extra, kind, part) in [
            (
                json!({"previous_response_id": "resp_1"}),
                NotSupported,
                "keeps nothing",
            ),
            (
                json!({"conversation": {"id": "c"}}),
                NotSupported,
                "`conversation`",
            ),
            (json!({"prompt": {"id": "p"}}), NotSupported, "`prompt`"),
            (json!({"background": true}), NotSupported, "keeps nothing"),
            (json!({"store": "no"}), InvalidArgs, "`store`"),
            (
                json!({"max_output_tokens": 0}),
                InvalidArgs,
                "`max_output_tokens`",
            ),
            (json!({"temperature": "hot"}), InvalidArgs, "`temperature`"),
            (json!({"tools": 1}), InvalidArgs, "`tools`"),
            (
                json!({"tools": [{"type": "web_search"}]}),
                NotSupported,
                "web_search",
            ),
            (
                json!({"tools": [{"type": "function"}]}),
                InvalidArgs,
                "`name`",
            ),
            (json!({"tool_choice": "any"}), InvalidArgs, "\"auto\""),
            (json!({"tool_choice": {"type": "mcp"}}), NotSupported, "mcp"),
            (
                json!({"tool_choice": {"type": "function"}}),
                InvalidArgs,
                "\"name\"",
            ),
            (json!({"text": 1}), InvalidArgs, "`text`"),
            (json!({"text": {"format": {}}}), InvalidArgs, "`type`"),
            (
                json!({"text": {"format": {"type": "xml"}}}),
                NotSupported,
                "xml",
            ),
            (
                json!({"text": {"format": {"type": "json_schema", "name": "n"}}}),
                InvalidArgs,
                "`schema`",
            ),
            (json!({"metadata": {"a": 1}}), InvalidArgs, "`metadata`"),
            (
                json!({"reasoning": {"effort": "some"}}),
                InvalidArgs,
                "`reasoning_effort`",
            ),
        ] {
            let mut body = json!({"input": "x"});
            for (name, value) in extra.as_object().unwrap() {
                body[name] = value.clone();
            }
            let error = decode(&body).unwrap_err();
            assert_eq!(error.kind, kind, "{body}: {error}");
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "[\\[\\]{}\":,a-z0-9.e-]{0,60}", input in "[\\[\\]{}\":,a-z0-9.e-]{0,30}") {
            _ = decode_responses(body.as_bytes());
            _ = decode_responses(format!("{{\"input\": {input}}}").as_bytes());
        }
    }
}
