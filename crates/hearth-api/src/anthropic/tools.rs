//! `tools` and `tool_choice`.

use hearth_proto::{Failure, ToolChoice};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::rich::not_supported;
use crate::openai::Tools;
use crate::read::{quote, read, read_in};
use crate::scalars::{Flag, Text};
use crate::shape::{List, Object};

#[derive(Debug, Deserialize)]
struct ToolFields {
    tools: Option<List<Object<Map<String, Value>>>>,
    tool_choice: Option<Object<Choice>>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: Option<Text>,
    name: Option<Text>,
    disable_parallel_tool_use: Option<Flag>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<Text>,
    name: Option<Text>,
    description: Option<Text>,
    input_schema: Option<Object<Map<String, Value>>>,
    strict: Option<Flag>,
}

/// The tools of a request, in the chat's form.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub(super) fn tools(body: &Map<String, Value>) -> Result<Tools, Failure> {
    let fields: ToolFields = read(body)?;
    let (mut list, mut left_out) = (Vec::new(), Vec::new());
    for (n, Object(tool)) in fields.tools.unwrap_or_default().0.iter().enumerate() {
        let place = format!("tools[{n}]");
        let tool: Tool = read_in(&place, tool)?;
        match tool.kind.as_ref().map(|kind| kind.0.as_str()) {
            None | Some("custom") => list.push(tool.function(&place)?),
            Some(kind) if is_anthropics(kind) => left_out.extend(tool.name.map(|name| name.0)),
            Some(kind) => {
                return Err(not_supported(
                    &format!("{place}.type"),
                    format_args!(
                        "{} is not supported: leave it out, or say \"custom\"",
                        quote(kind)
                    ),
                ));
            }
        }
    }
    let (choice, parallel) = match fields.tool_choice {
        None => (ToolChoice::Auto, true),
        Some(Object(choice)) => choice.read(&left_out)?,
    };
    if choice == ToolChoice::Required && list.is_empty() {
        return Err(Failure::invalid_field(
            "tool_choice",
            "is \"any\", but `tools` holds none that can be called here",
        ));
    }
    Tools::new(list, choice.into(), parallel)
}

/// Whether a type is one of the tools that Anthropic defines: their names have a date
/// (`web_search_20250305`), or end with `_toolset`. Some run in its service, and the models here
/// know none of them.
fn is_anthropics(kind: &str) -> bool {
    kind.ends_with("_toolset")
        || kind.rsplit_once('_').is_some_and(|(_, date)| {
            date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl Tool {
    fn function(self, place: &str) -> Result<Value, Failure> {
        let Some(Text(name)) = self.name.filter(|name| !name.0.is_empty()) else {
            return Err(Failure::invalid_field(place, "needs a `name`"));
        };
        let Some(Object(schema)) = self.input_schema else {
            return Err(Failure::invalid_field(place, "needs an `input_schema`"));
        };
        let mut function = json!({
            "name": name,
            "description": self.description.map_or_else(String::new, Into::into),
            "parameters": schema,
        });
        if let Some(Flag(strict)) = self.strict {
            function["strict"] = strict.into();
        }
        Ok(json!({"type": "function", "function": function}))
    }
}

impl Choice {
    /// The choice, and whether several tools may be called at once.
    fn read(self, left_out: &[String]) -> Result<(ToolChoice, bool), Failure> {
        let parallel = !self.disable_parallel_tool_use.is_some_and(Into::into);
        let choice = match self.kind.as_ref().map(|kind| kind.0.as_str()) {
            Some("auto") => ToolChoice::Auto,
            Some("any") => ToolChoice::Required,
            Some("none") => ToolChoice::None,
            Some("tool") => match self.name {
                Some(Text(name)) if left_out.contains(&name) => {
                    return Err(not_supported(
                        "tool_choice.name",
                        format_args!("is {}, a tool that this service lacks", quote(&name)),
                    ));
                }
                Some(Text(name)) => ToolChoice::Named(name),
                None => return Err(Failure::invalid_field("tool_choice", "needs a `name`")),
            },
            _ => {
                return Err(Failure::invalid_field(
                    "tool_choice.type",
                    "must be \"auto\", \"any\", \"tool\" or \"none\"",
                ));
            }
        };
        Ok((choice, parallel))
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::FailureKind::{InvalidArgs, NotSupported};

    use super::*;

    fn decode(body: &Value) -> Result<Tools, Failure> {
        tools(body.as_object().unwrap())
    }

    fn offered(choice: &Value) -> Value {
        json!({"tool_choice": choice, "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"},
                "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            {"type": "mcp_toolset", "mcp_server_name": "s"},
            {"type": "custom", "name": "g", "input_schema": {}, "strict": true}]})
    }

    #[test]
    fn tools_take_the_chats_form_and_anthropics_own_are_left_out() {
        let tools = decode(&offered(&Value::Null)).unwrap();
        let expected = json!([
            {"type": "function", "function": {"name": "f", "description": "d",
                "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g", "description": "", "parameters": {},
                "strict": true}}]);
        assert_eq!(Value::from(tools.list), expected);
        assert_eq!((tools.choice, tools.one_call), (ToolChoice::Auto, false));
    }

    #[test]
    fn every_tool_choice_is_read() {
        for (choice, expected, one_call, offers) in [
            (json!({"type": "auto"}), ToolChoice::Auto, false, 2),
            (
                json!({"type": "any", "disable_parallel_tool_use": true}),
                ToolChoice::Required,
                true,
                2,
            ),
            (
                json!({"type": "tool", "name": "g", "disable_parallel_tool_use": false}),
                ToolChoice::Named("g".into()),
                false,
                2,
            ),
            (json!({"type": "none"}), ToolChoice::None, false, 0),
        ] {
            let tools = decode(&offered(&choice)).unwrap();
            assert_eq!(tools.choice, expected, "{choice}");
            assert_eq!(
                (tools.one_call, tools.list.len()),
                (one_call, offers),
                "{choice}"
            );
        }
    }

    #[test]
    fn errors_name_the_tool() {
        let only_theirs = json!([{"type": "bash_20250124", "name": "bash"}]);
        for (body, kind, field) in [
            (json!({"tools": 1}), InvalidArgs, "tools"),
            (json!({"tools": [1]}), InvalidArgs, "tools[0]"),
            (
                json!({"tools": [{"input_schema": {}}]}),
                InvalidArgs,
                "tools[0]",
            ),
            (json!({"tools": [{"name": "f"}]}), InvalidArgs, "tools[0]"),
            (
                json!({"tools": [{"name": "f", "input_schema": "x"}]}),
                InvalidArgs,
                "tools[0].input_schema",
            ),
            (
                json!({"tools": [{"type": "function", "name": "f", "input_schema": {}}]}),
                NotSupported,
                "tools[0].type",
            ),
            (json!({"tool_choice": "auto"}), InvalidArgs, "tool_choice"),
            (json!({"tool_choice": {}}), InvalidArgs, "tool_choice.type"),
            (
                json!({"tools": only_theirs, "tool_choice": {"type": "any"}}),
                InvalidArgs,
                "tool_choice",
            ),
            (
                json!({"tools": only_theirs, "tool_choice": {"type": "tool", "name": "bash"}}),
                NotSupported,
                "tool_choice.name",
            ),
            (
                offered(&json!({"type": "tool"})),
                InvalidArgs,
                "tool_choice",
            ),
            (
                offered(&json!({"type": "tool", "name": "h"})),
                InvalidArgs,
                "tool_choice",
            ),
        ] {
            let failure = decode(&body).unwrap_err();
            assert_eq!(failure.kind, kind, "{body}: {failure}");
            assert_eq!(failure.field.as_deref(), Some(field), "{body}: {failure}");
        }
    }
}
