//! Requests in the format of the service: OpenAI's chat-completions JSON.

mod args;
mod sampling;

use serde_json::{Map, Value, json};
use zbus::Variant;

use crate::bus::Options;
pub use args::{PRIORITIES, QueueArgs, RequestArgs, json_file, lora};
pub use sampling::SamplingArgs;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Tool calls of the model, in OpenAI's format.
    pub calls: Vec<Value>,
    /// The call that a message of a tool is the result of.
    pub call_id: Option<String>,
}

impl Turn {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user",
            content: content.into(),
            calls: Vec::new(),
            call_id: None,
        }
    }

    /// A message of the model.
    pub fn assistant(content: &str, calls: Vec<Value>) -> Self {
        Self {
            role: "assistant",
            content: content.to_owned(),
            calls,
            call_id: None,
        }
    }

    /// The result of a tool call.
    pub fn tool(call_id: &str, content: &str) -> Self {
        Self {
            role: "tool",
            content: content.to_owned(),
            calls: Vec::new(),
            call_id: Some(call_id.to_owned()),
        }
    }
}

/// The request for the next answer of a conversation.
pub fn chat(turns: &[Turn], args: &RequestArgs) -> String {
    let system = args
        .system
        .iter()
        .map(|text| json!({ "role": "system", "content": text }));
    let messages = turns.iter().map(|turn| {
        let mut message = json!({ "role": turn.role, "content": turn.content });
        if !turn.calls.is_empty() {
            message["tool_calls"] = turn.calls.as_slice().into();
        }
        if let Some(id) = &turn.call_id {
            message["tool_call_id"] = id.as_str().into();
        }
        message
    });
    let mut request = Map::new();
    if let Some(model) = &args.model {
        request.insert("model".into(), model.as_str().into());
    }
    request.insert("messages".into(), system.chain(messages).collect());
    if turns.len() > 1 {
        // A long chat continues without its oldest turns.
        request.insert("truncation".into(), "auto".into());
    }
    // Options that were not given are omitted: the service has its own defaults.
    if let Some(n) = args.max_tokens {
        request.insert("max_tokens".into(), n.into());
    }
    if !args.lora.is_empty() {
        let adapters = args.lora.iter();
        let adapters = adapters.map(|(name, scale)| json!({ "name": name, "scale": scale }));
        request.insert("lora".into(), adapters.collect());
    }
    args.sampling.add_to(&mut request);
    if let Some(tools) = &args.tools {
        request.insert("tools".into(), tools.clone());
    }
    if let Some(choice) = args.tool_choice {
        request.insert("tool_choice".into(), choice.into());
    }
    if let Some(schema) = &args.schema {
        request.insert("json_schema".into(), schema.clone());
    }
    if let Some(regex) = &args.regex {
        request.insert("regex".into(), regex.as_str().into());
    }
    Value::Object(request).to_string()
}

/// The options of the D-Bus call: priority and deadline.
pub fn options<'a>(priority: &'a str, queue: &QueueArgs) -> Options<'a> {
    let mut options = Options::from([("priority", Variant::from(priority))]);
    if let Some(seconds) = queue.deadline {
        options.insert("deadline_ms", Variant::from(u64::from(seconds) * 1000));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let args = RequestArgs::default();
        assert_eq!(
            chat(&[Turn::user("hi")], &args),
            r#"{"messages":[{"role":"user","content":"hi"}]}"#
        );
    }

    #[test]
    fn the_system_prompt_comes_first() {
        let args = RequestArgs {
            system: Some("be brief".into()),
            model: Some("m".into()),
            lora: vec![("tone".into(), 0.5)],
            max_tokens: Some(5),
            sampling: SamplingArgs {
                temperature: Some(0.3),
                top_k: Some(20),
                top_p: Some(0.8),
                min_p: Some(0.1),
                repeat_penalty: Some(1.1),
                seed: Some(7),
            },
            tools: Some(json!([{"type": "function", "function": {"name": "f"}}])),
            tool_choice: Some("none"),
            schema: Some(json!({"type": "integer"})),
            regex: Some("a+".into()),
        };
        let turns = [
            Turn::user("a"),
            Turn::assistant("b", vec![json!({"id": "1"})]),
            Turn::tool("1", "result"),
        ];
        let request: Value = serde_json::from_str(&chat(&turns, &args)).unwrap();
        assert_eq!(request["messages"][0]["role"], "system");
        assert_eq!(request["messages"][2]["role"], "assistant");
        assert_eq!(request["messages"][2]["tool_calls"][0]["id"], "1");
        assert!(request["messages"][1]["tool_calls"].is_null());
        assert_eq!(
            request["messages"][3],
            json!({"role": "tool", "content": "result", "tool_call_id": "1"})
        );
        assert_eq!(request["tool_choice"], "none");
        assert_eq!(request["tools"][0]["function"]["name"], "f");
        assert_eq!(request["model"], "m");
        assert_eq!(request["max_tokens"], 5);
        assert_eq!(request["lora"], json!([{"name": "tone", "scale": 0.5}]));
        for (name, value) in [
            ("temperature", json!(0.3)),
            ("top_k", json!(20)),
            ("top_p", json!(0.8)),
            ("min_p", json!(0.1)),
            ("repeat_penalty", json!(1.1)),
            ("seed", json!(7)),
        ] {
            assert_eq!(request[name], value, "{name}");
        }
        assert_eq!(request["json_schema"]["type"], "integer");
        assert_eq!(request["regex"], "a+");
    }

    #[test]
    fn a_deadline_is_sent_in_milliseconds() {
        let queue = QueueArgs { deadline: Some(3) };
        let options = options("normal", &queue);
        assert_eq!(options["deadline_ms"], Variant::from(3000u64));
        assert_eq!(options["priority"], Variant::from("normal"));
    }
}
