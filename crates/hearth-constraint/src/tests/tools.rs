//! Tools that cannot be offered.

use hearth_proto::{FailureKind, GenerateRequest, Prompt, ToolChoice};
use serde_json::{Value, json};

use crate::check;

/// A table; longer than a screen: one row for each invalid tool or choice.
#[test]
fn errors_name_the_tool() {
    let tools = || {
        vec![
            json!({"type": "function", "function": {"name": "turn_on", "parameters": {
            "type": "object", "properties": {"area": {"enum": ["kitchen", "hall"]}}}}}),
        ]
    };
    let tool =
        |parameters: Value| vec![json!({"function": {"name": "lamp", "parameters": parameters}})];
    let mut many = tools();
    many.resize(1000, tools()[0].clone());
    for (tools, tool_choice, kind, part) in [
        (
            tool(json!({"type": "string"})),
            ToolChoice::Auto,
            FailureKind::InvalidSchema,
            "lamp",
        ),
        (
            tool(json!(3)),
            ToolChoice::Required,
            FailureKind::InvalidSchema,
            "lamp",
        ),
        (
            tool(json!({"properties": {"a": {"maxItems": 1e12}}})),
            ToolChoice::Required,
            FailureKind::InvalidSchema,
            "/maxItems",
        ),
        (
            vec![json!({"type": "function"})],
            ToolChoice::Auto,
            FailureKind::InvalidArgs,
            "`name`",
        ),
        (
            vec![],
            ToolChoice::Required,
            FailureKind::InvalidArgs,
            "`tools`",
        ),
        (
            tools(),
            ToolChoice::Named("fly".into()),
            FailureKind::InvalidArgs,
            "\"fly\"",
        ),
        (many, ToolChoice::Auto, FailureKind::InvalidArgs, "128"),
    ] {
        let request = GenerateRequest {
            prompt: Prompt::Chat {
                messages: Vec::new(),
                tools,
            },
            tool_choice,
            ..GenerateRequest::default()
        };
        let error = check(&request).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn ambiguous_tool_names_are_refused() {
    let checked = |names: &[&str]| {
        let tool = |name: &&str| json!({"type": "function", "function": {"name": name}});
        check(&GenerateRequest {
            prompt: Prompt::Chat {
                messages: Vec::new(),
                tools: names.iter().map(tool).collect(),
            },
            ..GenerateRequest::default()
        })
    };
    for names in [
        &["call"][..],
        &["turn_on", "calls"],
        &["call_root"],
        &["get_time", "get-time"],
        &["set", "set_schema"],
    ] {
        let refused = checked(names).unwrap_err();
        assert_eq!(refused.kind, FailureKind::InvalidArgs, "{names:?}");
    }
    for names in [
        &["recall", "caller"][..],
        &["get_time", "get__time2", "get"],
    ] {
        assert_eq!(checked(names), Ok(()), "{names:?}");
    }
}
