//! Requests, translated to chats.

use hearth_proto::{Constraint, Failure, Prompt, RequestOptions, Submission, Thinking};
use serde::Deserialize;
use serde_json::Value;

use super::messages::{Conversation, conversation};
use super::rich::not_supported;
use super::tools::tools;
use crate::openai::decode_options;
use crate::read::{object, quote, read};
use crate::scalars::{Flag, Stop, Text, Whole};
use crate::shape::Object;

/// A decoded request of `/v1/messages` or `/v1/messages/count_tokens`.
#[derive(Clone, Debug, PartialEq)]
pub struct MessagesRequest {
    /// What to do.
    pub submission: Submission,
    /// Whether to stream.
    pub stream: bool,
    /// Whether the response leaves out the text of the model's thinking.
    pub hides_thinking: bool,
}

#[derive(Debug, Deserialize)]
struct RequestFields {
    stream: Option<Flag>,
    stop_sequences: Option<Stop>,
    thinking: Option<Object<ThinkingFields>>,
    output_config: Option<Object<OutputFields>>,
    /// The older place of the format.
    output_format: Option<Object<Format>>,
}

#[derive(Debug, Deserialize)]
struct ThinkingFields {
    #[serde(rename = "type")]
    kind: Option<Text>,
    budget_tokens: Option<Whole>,
    display: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct OutputFields {
    effort: Option<Text>,
    format: Option<Object<Format>>,
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: Option<Text>,
    schema: Option<Value>,
}

/// Decodes a request. `max_tokens` may be absent: counting tokens has none.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_messages(body: &[u8]) -> Result<MessagesRequest, Failure> {
    let body = object(body)?;
    let fields: RequestFields = read(&body)?;
    let Conversation {
        messages,
        continues,
    } = conversation(&body)?;
    let tools = tools(&body)?;
    let format_field = fields
        .output_format
        .as_ref()
        .map_or("output_config.format", |_| "output_format");
    let (effort, format) = match fields.output_config {
        None => (None, None),
        Some(Object(output)) => (output.effort, output.format),
    };
    let format = match (format, fields.output_format) {
        (Some(Object(format)), _) => format.constraint("output_config.format")?,
        (None, Some(Object(format))) => format.constraint("output_format")?,
        (None, None) => None,
    };
    let effort = effort.as_ref().map(effort_of).transpose()?;
    let thinking = fields.thinking.map(|thinking| thinking.0);
    // What its API lacks, such as samplers, means the same as in a chat.
    let options = decode_options(&body)?;
    let options = RequestOptions {
        stop: fields.stop_sequences.map(Into::into),
        thinking: Some(match &thinking {
            // Clients that do not ask for it expect the text in the first block.
            None => Thinking::Off,
            Some(thinking) => thinking.thinking(effort)?,
        }),
        reasoning_budget: thinking
            .as_ref()
            .and_then(|t| t.budget_tokens)
            .map(Into::into),
        constraint_field: format
            .as_ref()
            .map(|_| format_field)
            .or(options.constraint_field),
        constraint: format.or(options.constraint),
        continue_final_message: Some(continues),
        ..options
    };
    let prompt = Prompt::Chat {
        messages,
        tools: tools.list.clone(),
    };
    let mut submission = options.submission(prompt);
    tools.apply(&mut submission.request);
    Ok(MessagesRequest {
        submission,
        stream: fields.stream.is_some_and(Into::into),
        hides_thinking: thinking
            .and_then(|t| t.display)
            .is_some_and(|text| text.0 == "omitted"),
    })
}

impl ThinkingFields {
    fn thinking(&self, effort: Option<Thinking>) -> Result<Thinking, Failure> {
        match self.kind.as_ref().map(|kind| kind.0.as_str()) {
            Some("enabled" | "adaptive" | "between_tools") => Ok(effort.unwrap_or(Thinking::On)),
            Some("disabled") => Ok(Thinking::Off),
            _ => Err(Failure::invalid_field(
                "thinking.type",
                "must be \"enabled\", \"disabled\" or \"adaptive\"",
            )),
        }
    }
}

fn effort_of(word: &Text) -> Result<Thinking, Failure> {
    match word.0.as_str() {
        "low" => Ok(Thinking::Low),
        "medium" => Ok(Thinking::Medium),
        "high" | "xhigh" | "max" => Ok(Thinking::High),
        _ => Err(Failure::invalid_field(
            "output_config.effort",
            "must be \"low\", \"medium\", \"high\", \"xhigh\" or \"max\"",
        )),
    }
}

impl Format {
    fn constraint(self, field: &str) -> Result<Option<Constraint>, Failure> {
        match (self.kind.as_ref().map(|kind| kind.0.as_str()), self.schema) {
            (Some("json_schema"), Some(schema)) => Ok(Some(Constraint::LenientSchema(schema))),
            (Some("json_schema"), None) => Err(Failure::invalid_field(field, "needs a `schema`")),
            (Some(other), _) => Err(not_supported(
                field,
                format_args!(
                    "of type {} is not supported: use \"json_schema\"",
                    quote(other)
                ),
            )),
            (None, _) => Err(Failure::invalid_field(field, "needs a `type`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::ToolChoice;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(extra: &Value) -> Result<MessagesRequest, Failure> {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        decode_messages(body.to_string().as_bytes())
    }

    #[test]
    fn a_request_of_an_agent_is_read() {
        let decoded = decode(&json!({
            "model": "claude-sonnet", "max_tokens": 32000, "stream": true, "temperature": 1,
            "top_p": 0.5, "top_k": 7, "stop_sequences": ["END"],
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "metadata": {"user_id": "u"}, "service_tier": "auto", "container": null,
            "context_management": {"edits": []}, "mcp_servers": [],
        }));
        let decoded = decoded.unwrap();
        assert!(decoded.stream && !decoded.hides_thinking);
        assert_eq!(decoded.submission.model.as_deref(), Some("claude-sonnet"));
        let request = decoded.submission.request;
        assert_eq!(request.max_tokens, Some(32_000));
        let sampling = request.sampling;
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.top_k),
            (Some(1.0), Some(0.5), Some(7))
        );
        assert_eq!(request.stop, ["END"]);
        assert_eq!(request.tool_choice, ToolChoice::Required);
        assert!(request.one_call && !request.continue_final_message);
        let Prompt::Chat { messages, tools } = request.prompt else {
            panic!()
        };
        assert_eq!((messages.len(), tools.len()), (2, 1));
    }

    #[test]
    fn thinking_is_off_unless_it_is_asked_for() {
        for (extra, thinking, budget, hidden) in [
            (json!({}), Thinking::Off, None, false),
            (json!({"thinking": null}), Thinking::Off, None, false),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 50}}),
                Thinking::On,
                Some(50),
                false,
            ),
            (
                json!({"thinking": {"type": "disabled"}}),
                Thinking::Off,
                None,
                false,
            ),
            (
                json!({"thinking": {"type": "adaptive", "display": "omitted"},
                    "output_config": {"effort": "low"}}),
                Thinking::Low,
                None,
                true,
            ),
            (
                json!({"output_config": {"effort": "max"}}),
                Thinking::Off,
                None,
                false,
            ),
        ] {
            let decoded = decode(&extra).unwrap();
            let request = decoded.submission.request;
            assert_eq!(
                (
                    request.thinking,
                    request.reasoning_budget,
                    decoded.hides_thinking
                ),
                (Some(thinking), budget, hidden),
                "{extra}"
            );
        }
    }

    #[test]
    fn a_format_is_a_constraint() {
        let format = json!({"type": "json_schema", "schema": {"type": "integer"}});
        for extra in [
            json!({"output_config": {"format": format}}),
            json!({"output_format": format}),
        ] {
            let request = decode(&extra).unwrap().submission.request;
            let expected = Constraint::LenientSchema(json!({"type": "integer"}));
            assert_eq!(request.constraint, Some(expected), "{extra}");
        }
        let own = decode(&json!({"regex": "a+"})).unwrap().submission.request;
        assert_eq!(own.constraint, Some(Constraint::Regex("a+".into())));
    }

    #[test]
    fn an_answer_that_was_begun_is_continued() {
        let answered = |content: Value| {
            let list = json!([{"role": "user", "content": "x"},
                {"role": "assistant", "content": content}]);
            decode(&json!({"messages": list}))
                .unwrap()
                .submission
                .request
        };
        assert!(answered(json!("The answer is (")).continue_final_message);
        let call = json!([{"type": "tool_use", "id": "1", "name": "f", "input": {}}]);
        assert!(!answered(call).continue_final_message);
        let empty = answered(json!(""));
        assert!(!empty.continue_final_message);
        let Prompt::Chat { messages, .. } = empty.prompt else {
            panic!()
        };
        assert_eq!(messages.len(), 1, "there is nothing to continue");
    }

    #[test]
    fn errors_name_the_field() {
        for (extra, field) in [
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": "many"}), "max_tokens"),
            (json!({"model": 1}), "model"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"top_k": []}), "top_k"),
            (json!({"stop_sequences": [1]}), "stop_sequences[0]"),
            (json!({"stop_sequences": vec!["x"; 17]}), "stop_sequences"),
            (json!({"thinking": "on"}), "thinking"),
            (json!({"thinking": {"type": "much"}}), "thinking.type"),
            (json!({"thinking": {}}), "thinking.type"),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": "x"}}),
                "thinking.budget_tokens",
            ),
            (
                json!({"output_config": {"effort": "some"}}),
                "output_config.effort",
            ),
            (
                json!({"output_config": {"format": {}}}),
                "output_config.format",
            ),
            (
                json!({"output_config": {"format": {"type": "json_schema"}}}),
                "output_config.format",
            ),
            (json!({"output_format": {"type": "xml"}}), "output_format"),
        ] {
            let failure = decode(&extra).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{extra}: {failure}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in "[\\[\\]{}\":,a-z0-9.e-]{0,60}", content in "[\\[\\]{}\":,a-z0-9.e-]{0,30}") {
            _ = decode_messages(body.as_bytes());
            _ = decode_messages(format!("{{\"messages\": [{content}]}}").as_bytes());
        }
    }
}
