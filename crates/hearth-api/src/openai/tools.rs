//! The tools of a request.

use hearth_proto::{CallMode, Failure, GenerateRequest, ToolChoice};
use serde_json::{Map, Value};

use crate::fields::field;

/// `tools`, `tool_choice`, `parallel_tool_calls` and `tool_call_mode`, decoded.
#[derive(Debug)]
pub(crate) struct Tools {
    /// For the template.
    pub list: Vec<Value>,
    pub choice: ToolChoice,
    /// At most one call in an answer.
    pub one_call: bool,
    /// What counts as a call; `None`: as configured.
    pub mode: Option<CallMode>,
}

impl Tools {
    pub(crate) fn decode(body: &Map<String, Value>) -> Result<Self, Failure> {
        let mut list = match body.get("tools") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(_) => return Err(Failure::invalid_field("tools", "must be a list")),
        };
        let names = names(&list)?;
        let choice = choice(body.get("tool_choice"), &names)?;
        if choice == ToolChoice::None {
            // The model cannot call tools that it does not see.
            list.clear();
        }
        let one_call = field(body, "parallel_tool_calls").flag()? == Some(false);
        let mode = field(body, "tool_call_mode").text()?;
        let mode = mode.map(|mode| mode.parse()).transpose();
        let mode = mode.map_err(|why| {
            Failure::invalid(format!("`tool_call_mode`: {why}")).about("tool_call_mode")
        })?;
        Ok(Self {
            list,
            choice,
            one_call,
            mode,
        })
    }

    /// Sets the fields that concern tools, except the list.
    pub(crate) fn apply(self, request: &mut GenerateRequest) {
        request.tool_choice = self.choice;
        request.one_call = self.one_call;
        request.call_mode = self.mode;
    }
}

/// Reads a list of tools.
///
/// # Errors
/// `InvalidArgs` where the text is no such list, or a tool has no name.
pub fn decode_tools(text: &str) -> Result<Vec<Value>, Failure> {
    let list = match serde_json::from_str(text) {
        Ok(Value::Array(list)) => list,
        Ok(_) => return Err(Failure::invalid_field("tools", "must be a list")),
        Err(error) => {
            return Err(Failure::invalid_field(
                "tools",
                format!("is not valid JSON: {error}"),
            ));
        }
    };
    names(&list)?;
    Ok(list)
}

fn names(list: &[Value]) -> Result<Vec<String>, Failure> {
    list.iter().map(name).collect()
}

fn name(tool: &Value) -> Result<String, Failure> {
    match tool.pointer("/function/name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(Failure::invalid(
            "each of `tools` needs a `function` with a `name`",
        )),
    }
}

fn choice(value: Option<&Value>, names: &[String]) -> Result<ToolChoice, Failure> {
    let choice = match value {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(wrong_choice()),
        },
        Some(value) => match value.pointer("/function/name") {
            Some(Value::String(name)) => ToolChoice::Named(name.clone()),
            _ => return Err(wrong_choice()),
        },
    };
    match &choice {
        ToolChoice::Required if names.is_empty() => Err(Failure::invalid_field(
            "tool_choice",
            "is \"required\", but `tools` holds none",
        )),
        ToolChoice::Named(name) if !names.contains(name) => Err(Failure::invalid_field(
            "tool_choice",
            format!("names {name:?}, which is not among `tools`"),
        )),
        _ => Ok(choice),
    }
}

fn wrong_choice() -> Failure {
    Failure::invalid_field(
        "tool_choice",
        "must be \"auto\", \"none\", \"required\" or \
         {\"type\": \"function\", \"function\": {\"name\": …}}",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<Tools, Failure> {
        Tools::decode(body.as_object().unwrap())
    }

    #[test]
    fn choices() {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        for (choice, expected, offered) in [
            (json!(null), ToolChoice::Auto, 1),
            (json!("auto"), ToolChoice::Auto, 1),
            (json!("none"), ToolChoice::None, 0),
            (json!("required"), ToolChoice::Required, 1),
            (
                json!({"type": "function", "function": {"name": "f"}}),
                ToolChoice::Named("f".into()),
                1,
            ),
        ] {
            let decoded = decode(&json!({"tools": tools, "tool_choice": choice})).unwrap();
            assert_eq!(decoded.choice, expected);
            assert_eq!(decoded.list.len(), offered);
        }
    }

    #[test]
    fn one_call_only_where_it_is_said() {
        for (value, one_call) in [
            (json!(null), false),
            (json!(true), false),
            (json!(false), true),
        ] {
            let tools = decode(&json!({"parallel_tool_calls": value})).unwrap();
            assert_eq!(tools.one_call, one_call, "{value}");
        }
    }

    #[test]
    fn lists_are_read_and_checked() {
        let list = decode_tools(r#"[{"type": "function", "function": {"name": "f"}}]"#).unwrap();
        assert_eq!(list[0]["function"]["name"], "f");
        for (text, part) in [
            ("[", "not valid JSON"),
            ("{}", "must be a list"),
            ("[{}]", "`function`"),
        ] {
            let error = decode_tools(text).unwrap_err();
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn wrong_tools_are_named() {
        let tools = json!([{"function": {"name": "f"}}]);
        for (body, part) in [
            (json!({"tools": 3}), "`tools` must be a list"),
            (json!({"tools": [{}]}), "`function`"),
            (json!({"tools": [{"function": {"name": ""}}]}), "`name`"),
            (json!({"tools": tools, "tool_choice": "any"}), "\"auto\""),
            (json!({"tools": tools, "tool_choice": {}}), "\"auto\""),
            (
                json!({"tools": tools, "tool_choice": {"function": {"name": "g"}}}),
                "\"g\"",
            ),
            (json!({"tool_choice": "required"}), "holds none"),
            (json!({"parallel_tool_calls": 1}), "`parallel_tool_calls`"),
        ] {
            let error = decode(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }
}
