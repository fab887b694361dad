//! What is refused without a model.

use hearth_proto::{Constraint, FailureKind, GenerateRequest, Message, Prompt, ToolChoice};
use serde_json::{Value, json};

use crate::check;

fn request(
    constraint: Option<Constraint>,
    tools: Vec<Value>,
    choice: ToolChoice,
) -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt::Chat {
            messages: vec![Message::user("x")],
            tools,
        },
        constraint,
        tool_choice: choice,
        ..GenerateRequest::default()
    }
}

/// A table; longer than a screen: one row for each invalid request.
#[test]
fn invalid_requests_are_found_without_a_model() {
    let schema = |value| Some(Constraint::JsonSchema(value));
    let gbnf = |text: &str| Some(Constraint::Gbnf(text.to_owned()));
    let lamp = || vec![json!({"function": {"name": "lamp"}})];
    let auto = ToolChoice::Auto;
    for (constraint, tools, choice, kind, part) in [
        (
            schema(json!([])),
            vec![],
            auto.clone(),
            FailureKind::InvalidSchema,
            "object",
        ),
        (
            schema(json!({"items": {"maxLength": 1e7}})),
            vec![],
            auto.clone(),
            FailureKind::InvalidSchema,
            "/items/maxLength",
        ),
        (
            schema(json!({"enum": ["x".repeat(300_000)]})),
            vec![],
            auto.clone(),
            FailureKind::InvalidSchema,
            "bytes",
        ),
        (
            gbnf("root ::= a"),
            vec![],
            auto.clone(),
            FailureKind::InvalidSchema,
            "\"a\"",
        ),
        (
            Some(Constraint::Lark("\n".repeat(2001))),
            vec![],
            auto.clone(),
            FailureKind::InvalidSchema,
            "2001 lines",
        ),
        (
            None,
            vec![json!(1)],
            auto.clone(),
            FailureKind::InvalidArgs,
            "`name`",
        ),
        (
            None,
            vec![],
            ToolChoice::Required,
            FailureKind::InvalidArgs,
            "`tools`",
        ),
        (
            None,
            lamp(),
            ToolChoice::Named("fan".into()),
            FailureKind::InvalidArgs,
            "\"fan\"",
        ),
    ] {
        let error = check(&request(constraint, tools, choice)).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn valid_requests_pass() {
    let lamp = || vec![json!({"function": {"name": "lamp"}})];
    for (constraint, tools, choice) in [
        (None, vec![], ToolChoice::Auto),
        (None, vec![], ToolChoice::None),
        (None, lamp(), ToolChoice::Required),
        (None, lamp(), ToolChoice::Named("lamp".into())),
        (Some(Constraint::JsonObject), lamp(), ToolChoice::None),
        (Some(Constraint::JsonObject), lamp(), ToolChoice::Auto),
        (
            Some(Constraint::JsonSchema(json!(true))),
            vec![],
            ToolChoice::Auto,
        ),
        (
            Some(Constraint::Regex("a".into())),
            vec![],
            ToolChoice::Auto,
        ),
        (
            Some(Constraint::Lark("start: \"a\"".into())),
            vec![],
            ToolChoice::Auto,
        ),
    ] {
        let request = request(constraint, tools, choice);
        assert_eq!(check(&request), Ok(()), "{request:?}");
    }
}
