//! Requests, translated to chats.

use hearth_proto::{Constraint, Failure, Prompt, RequestOptions, ToolChoice};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::{Map, Value, json};

use super::input::{messages, not_supported};
use super::tools::{Choice, tools};
use crate::openai::form::json_schema;
use crate::openai::options::{Effort, decode_options};
use crate::openai::request::ChatRequest;
use crate::openai::tools::Tools;
use crate::read::{object, quote, read, read_value};
use crate::scalars::{Flag, Text, Whole};
use crate::shape::{List, Object, Shape, deserialize_by_shape, refusal};
use crate::timings::Reports;

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponsesRequest {
    /// The equivalent chat, with one candidate.
    pub chat: ChatRequest,
    /// The fields of the request that the response repeats.
    pub(super) echo: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ResponsesFields {
    stream: Option<Flag>,
    max_output_tokens: Option<Whole>,
    tools: Option<List<Object<Map<String, Value>>>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<Flag>,
    text: Option<Object<TextFields>>,
    /// Of an object `effort` is used; others are ignored.
    reasoning: Option<Value>,
    #[expect(dead_code, reason = "checked here, and repeated as it is")]
    metadata: Option<Metadata>,
    // What needs stored state.
    previous_response_id: Option<IgnoredAny>,
    conversation: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    background: Option<Flag>,
    #[expect(dead_code, reason = "only checked: nothing is stored")]
    store: Option<Flag>,
}

#[derive(Debug, Deserialize)]
struct TextFields {
    format: Option<Object<Format>>,
}

#[derive(Debug, Deserialize)]
struct Format {
    strict: Option<Flag>,
    #[serde(rename = "type")]
    kind: Option<Text>,
    schema: Option<Value>,
}

/// Decodes a request to `/v1/responses`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_responses(body: &[u8]) -> Result<ResponsesRequest, Failure> {
    let body = object(body)?;
    let fields: ResponsesFields = read(&body)?;
    fields.refuse_what_is_kept()?;
    if fields.max_output_tokens.is_some_and(|most| most.0 == 0) {
        return Err(Failure::invalid_field(
            "max_output_tokens",
            "must be at least 1",
        ));
    }
    let messages = messages(&body)?;
    let list = tools(fields.tools.unwrap_or_default())?;
    let choice = fields
        .tool_choice
        .unwrap_or(Choice::Any(ToolChoice::Auto.into()));
    let parallel = fields.parallel_tool_calls.is_none_or(Into::into);
    let tools = Tools::new(list, choice.supported()?, parallel)?;
    let format = fields.text.and_then(|text| text.0.format);
    let effort = &fields.reasoning.unwrap_or_default()["effort"];
    let effort: Option<Effort> = read_value("reasoning.effort", effort)?;
    let options = RequestOptions {
        max_tokens: fields.max_output_tokens.map(Into::into),
        constraint: format.map(|f| f.0.constraint()).transpose()?.flatten(),
        constraint_field: Some("text.format"),
        thinking: effort.map(|effort| effort.0),
        // All others mean the same as in a chat.
        ..decode_options(&body)?
    };
    let prompt = Prompt::Chat {
        messages,
        tools: tools.list.clone(),
    };
    let mut submission = options.submission(prompt);
    tools.apply(&mut submission.request);
    Ok(ResponsesRequest {
        chat: ChatRequest {
            submission,
            n: 1,
            stream: fields.stream.is_some_and(Into::into),
            include_usage: false,
            reports: Reports::default(),
        },
        echo: echo(&body),
    })
}

impl ResponsesFields {
    /// Refuses fields that need stored state: nothing is stored from one request to the
    /// next.
    fn refuse_what_is_kept(&self) -> Result<(), Failure> {
        for (name, value) in [
            ("previous_response_id", &self.previous_response_id),
            ("conversation", &self.conversation),
            ("prompt", &self.prompt),
        ] {
            if value.is_some() {
                return Err(not_supported(
                    name,
                    "is not supported, this service keeps nothing: send the whole conversation \
                     in `input`",
                ));
            }
        }
        if self.background.is_some_and(Into::into) {
            return Err(not_supported(
                "background",
                "is not supported, this service keeps nothing: wait for the answer, or submit a \
                 job over D-Bus",
            ));
        }
        Ok(())
    }
}

/// Names to texts.
#[derive(Debug)]
struct Metadata;

deserialize_by_shape!(Metadata);

impl<'de> Shape<'de> for Metadata {
    const WHAT: &'static str = "must map names to strings";

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while let Some((_, value)) = object.next_entry::<IgnoredAny, Value>()? {
            if !value.is_string() {
                return Err(refusal::<Self, A::Error>());
            }
        }
        Ok(Self)
    }
}

impl Format {
    fn constraint(self) -> Result<Option<Constraint>, Failure> {
        let field = "text.format";
        match (self.kind.as_ref().map(|kind| kind.0.as_str()), self.schema) {
            (Some("text"), _) => Ok(None),
            (Some("json_object"), None) => Ok(Some(Constraint::JsonObject)),
            (Some("json_object" | "json_schema"), Some(schema)) => {
                let is_strict = self.strict.is_some_and(Into::into);
                Ok(Some(json_schema(schema, is_strict)))
            }
            (Some("json_schema"), None) => Err(Failure::invalid_field(
                field,
                "of type \"json_schema\" needs a `schema`",
            )),
            (Some(other), _) => Err(not_supported(
                field,
                format_args!(
                    "{} is not supported: use \"text\", \"json_object\" or \"json_schema\"",
                    quote(other)
                ),
            )),
            (None, _) => Err(Failure::invalid_field(
                field,
                "must be an object with a `type`",
            )),
        }
    }
}

/// The fields that a response repeats; clients expect them.
fn echo(body: &Map<String, Value>) -> Map<String, Value> {
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
    fields.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use hearth_proto::{FailureKind, Overflow, Thinking};
    use proptest::prelude::*;

    use super::*;

    fn decode(body: &Value) -> Result<ResponsesRequest, Failure> {
        decode_responses(body.to_string().as_bytes())
    }

    fn refused(extra: &Value, kind: FailureKind, part: &str) {
        let mut body = json!({"input": "x"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let error = decode(&body).unwrap_err();
        assert_eq!(error.kind, kind, "{body}: {error}");
        assert!(error.message.contains(part), "{body}: {error}");
    }

    #[test]
    fn a_request_equals_the_corresponding_chat() {
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
    fn sampling_options_are_those_of_a_chat() {
        let options = json!({
            "temperature": 0.5, "dynatemp_range": 0.25, "dynatemp_exponent": 1.5, "top_k": 7,
            "top_p": 0.75, "min_p": 0.25, "typical_p": 0.75, "top_n_sigma": 2.0,
            "xtc_probability": 0.25, "xtc_threshold": 0.25, "min_keep": 2,
            "repeat_penalty": 1.25, "repeat_last_n": 9, "presence_penalty": 0.5,
            "frequency_penalty": 0.25, "dry_multiplier": 0.5, "dry_base": 1.5,
            "dry_allowed_length": 3, "dry_penalty_last_n": 11, "dry_sequence_breakers": [";"],
            "mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.25, "adaptive_target": 0.5,
            "adaptive_decay": 0.5, "samplers": ["top_k", "temperature"], "seed": 5,
            "logit_bias": {"7": -1}, "ignore_eos": true,
        });
        let mut body = options.clone();
        body["input"] = "x".into();
        let request = decode(&body).unwrap().chat.submission.request;
        let chat = decode_options(options.as_object().unwrap()).unwrap();
        let chat = chat.submission(Prompt::Text("x".into())).request;
        assert_eq!(request.sampling, chat.sampling);
        assert!(request.sampling.ignore_eos);
        let set = serde_json::to_value(&request.sampling).unwrap();
        let unset: Vec<_> = set
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| v.is_null())
            .collect();
        assert!(unset.is_empty(), "set it here as well: {unset:?}");
    }

    #[test]
    fn unsupported_fields_are_refused_by_name() {
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
                "`reasoning.effort`",
            ),
        ] {
            refused(&extra, kind, part);
        }
    }

    #[test]
    fn errors_name_the_tool() {
        use FailureKind::{InvalidArgs, NotSupported};
        for (extra, kind, part) in [
            (json!({"tools": 1}), InvalidArgs, "`tools`"),
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
        ] {
            refused(&extra, kind, part);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in "[\\[\\]{}\":,a-z0-9.e-]{0,60}", input in "[\\[\\]{}\":,a-z0-9.e-]{0,30}") {
            _ = decode_responses(body.as_bytes());
            _ = decode_responses(format!("{{\"input\": {input}}}").as_bytes());
        }
    }
}
