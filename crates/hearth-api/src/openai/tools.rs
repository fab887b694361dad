//! The tools of a request.

use hearth_proto::{CallMode, Failure, GenerateRequest, ToolChoice};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess};
use serde_json::{Map, Value};

use crate::read::{quote, read};
use crate::scalars::Flag;
use crate::shape::{List, Shape, deserialize_by_shape, refusal};

#[derive(Debug, Deserialize)]
struct ToolFields {
    /// In the form for the chat template; only the names are read here.
    tools: Option<List<Value>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<Flag>,
    tool_call_mode: Option<Mode>,
}

/// `tools`, `tool_choice`, `parallel_tool_calls` and `tool_call_mode`, decoded.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The tools, as the chat template takes them.
    pub list: Vec<Value>,
    /// Whether one may, must or must not be called.
    pub choice: ToolChoice,
    /// At most one call in an answer.
    pub one_call: bool,
    /// What counts as a call; `None`: as configured.
    pub mode: Option<CallMode>,
}

impl Tools {
    /// Reads the fields of a request that concern tools.
    ///
    /// # Errors
    /// `InvalidArgs` naming the field.
    pub fn decode(body: &Map<String, Value>) -> Result<Self, Failure> {
        let fields: ToolFields = read(body)?;
        let mut list = fields.tools.unwrap_or_default().0;
        // Those that a server runs itself (web search) and those with free text as input.
        list.retain(|tool| tool["type"].as_str().is_none_or(|kind| kind == "function"));
        let choice = fields.tool_choice.unwrap_or_default();
        let parallel = fields.parallel_tool_calls.is_none_or(|flag| flag.0);
        Self::new(list, choice, parallel).map(|tools| Self {
            mode: fields.tool_call_mode.map(|mode| mode.0),
            ..tools
        })
    }

    /// # Errors
    /// `InvalidArgs` where a tool has no name, or the choice cannot be met.
    pub(crate) fn new(
        mut list: Vec<Value>,
        choice: Choice,
        parallel: bool,
    ) -> Result<Self, Failure> {
        let Choice { choice, among } = choice;
        if let Some(among) = among {
            list.retain(|tool| {
                let name = tool.pointer("/function/name").and_then(Value::as_str);
                name.is_some_and(|name| among.iter().any(|other| other == name))
            });
        }
        check_choice(&choice, &names(&list)?)?;
        if choice == ToolChoice::None {
            // The model cannot call tools that it does not see.
            list.clear();
        }
        Ok(Self {
            list,
            choice,
            one_call: !parallel,
            mode: None,
        })
    }

    /// Sets the fields that concern tools, except the list.
    pub fn apply(self, request: &mut GenerateRequest) {
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

fn names(list: &[Value]) -> Result<Vec<&str>, Failure> {
    list.iter().enumerate().map(name).collect()
}

fn name((place, tool): (usize, &Value)) -> Result<&str, Failure> {
    let name = tool.pointer("/function/name").and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::invalid("each of `tools` needs a `function` with a `name`")
            .about(format!("tools[{place}]"))
    })
}

fn check_choice(choice: &ToolChoice, names: &[&str]) -> Result<(), Failure> {
    match choice {
        ToolChoice::Required if names.is_empty() => Err(Failure::invalid_field(
            "tool_choice",
            "is \"required\", but `tools` holds none",
        )),
        ToolChoice::Named(name) if !names.contains(&name.as_str()) => Err(Failure::invalid_field(
            "tool_choice",
            format_args!("names {}, which is not among `tools`", quote(name)),
        )),
        _ => Ok(()),
    }
}

/// A choice among the tools.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) choice: ToolChoice,
    /// The names of those that it is limited to; `None`: all.
    among: Option<Vec<String>>,
}

impl From<ToolChoice> for Choice {
    fn from(choice: ToolChoice) -> Self {
        Self {
            choice,
            among: None,
        }
    }
}

/// A choice of type `allowed_tools`: in a chat its content is in a field of the same name.
pub(super) fn allowed_tools(choice: &Value) -> Option<Choice> {
    let content = choice.get("allowed_tools").unwrap_or(choice);
    let mode = content.get("mode").map_or(Some("auto"), Value::as_str)?;
    let mode = simple_choice(mode).filter(|mode| *mode != ToolChoice::None)?;
    let name = |tool: &Value| {
        let name = tool.pointer("/function/name").or_else(|| tool.get("name"));
        name.and_then(Value::as_str).map(str::to_owned)
    };
    let tools = content.get("tools").and_then(Value::as_array)?;
    Some(Choice {
        choice: mode,
        among: Some(tools.iter().filter_map(name).collect()),
    })
}

#[derive(Debug)]
struct Mode(CallMode);

deserialize_by_shape!(Choice Mode);

impl<'de> Shape<'de> for Choice {
    const WHAT: &'static str = "must be \"auto\", \"none\", \"required\" or \
                                {\"type\": \"function\", \"function\": {\"name\": …}}";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        let choice = simple_choice(word).ok_or_else(refusal::<Self, E>);
        choice.map(Self::from)
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let choice = Value::deserialize(MapAccessDeserializer::new(object))?;
        if choice["type"] == "allowed_tools" {
            return allowed_tools(&choice).ok_or_else(refusal::<Self, A::Error>);
        }
        let name = choice.pointer("/function/name").and_then(Value::as_str);
        let name = name.ok_or_else(refusal::<Self, A::Error>)?;
        Ok(ToolChoice::Named(name.to_owned()).into())
    }
}

/// A choice that names no tool.
pub(super) fn simple_choice(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

impl Shape<'_> for Mode {
    const WHAT: &'static str = "must be \"strict\" or \"lenient\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        word.parse().map(Self).map_err(|_| refusal::<Self, E>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &Value) -> Result<Tools, Failure> {
        Tools::decode(body.as_object().unwrap())
    }

    #[test]
    fn tool_choices_are_read() {
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
    fn tools_of_other_types_are_left_out_and_the_choice_is_narrowed() {
        let tools = json!([{"type": "web_search"}, {"type": "custom", "custom": {"name": "c"}},
            {"type": "function", "function": {"name": "f"}}, {"function": {"name": "g"}}]);
        let names = |choice: Value| -> Vec<String> {
            let tools = decode(&json!({"tools": tools, "tool_choice": choice})).unwrap();
            let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
            tools.list.iter().map(name).collect()
        };
        assert_eq!(names(json!(null)), ["f", "g"]);
        let allowed = |mode: &str| {
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode,
                "tools": [{"type": "function", "function": {"name": "g"}}]}})
        };
        assert_eq!(names(allowed("auto")), ["g"]);
        let required = json!({"tools": tools, "tool_choice": allowed("required")});
        assert_eq!(decode(&required).unwrap().choice, ToolChoice::Required);
        let failure = decode(&json!({"tools": tools, "tool_choice": allowed("some")}));
        assert!(failure.is_err());
    }

    #[test]
    fn parallel_tool_calls_false_allows_one_call() {
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
    fn tool_lists_are_read_and_checked() {
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
    fn errors_name_the_tool() {
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
