//! Tool calls, asked for and begun by the model.

use serde_json::{Value, json};

use super::{CALL, CALL_END, END, fits, greedy, lossy, run, vocabulary};
use crate::prompt::constraint::{Matcher, Vocabulary};
use crate::protocol::{CallFormat, FailureKind, ToolChoice};

const FORMATS: [CallFormat; 4] = [
    CallFormat::Hermes,
    CallFormat::Llama,
    CallFormat::Mistral,
    CallFormat::Json,
];

fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "turn_on", "parameters": {
            "type": "object", "properties": {"area": {"enum": ["kitchen", "hall"]}}, "required": ["area"]}}}),
        json!({"type": "function", "function": {"name": "turn_on_all"}}),
        json!({"type": "function", "function": {"name": "s\"y", "strict": true, "parameters": {
            "type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "required": ["x"],
            "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}}}}),
    ]
}

fn matcher(vocabulary: &Vocabulary, format: CallFormat, choice: &ToolChoice) -> Matcher {
    Matcher::for_tools(vocabulary, format, &tools(), choice)
        .unwrap()
        .unwrap()
}

/// The calls in an answer that is nothing else.
fn calls(format: CallFormat, text: &str) -> Vec<Value> {
    let json =
        |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    match format {
        CallFormat::Hermes => text
            .split_inclusive("</tool_call>")
            .map(|call| {
                let call = call.trim().strip_prefix("<tool_call>").unwrap();
                json(call.strip_suffix("</tool_call>").unwrap())
            })
            .collect(),
        CallFormat::Mistral => {
            let list = json(text.strip_prefix("[TOOL_CALLS]").unwrap());
            list.as_array().unwrap().clone()
        }
        CallFormat::Llama | CallFormat::Json => vec![json(text)],
    }
}

fn assert_call(format: CallFormat, call: &Value) {
    let key = if format == CallFormat::Llama {
        "parameters"
    } else {
        "arguments"
    };
    let arguments = call[key].as_object().unwrap_or_else(|| panic!("{call}"));
    match call["name"].as_str().unwrap() {
        "turn_on" => assert!(
            arguments.len() == 1
                && ["kitchen", "hall"].contains(&arguments["area"].as_str().unwrap()),
            "{call}"
        ),
        "turn_on_all" => {}
        "s\"y" => assert!(
            arguments.len() == 1 && arguments["x"].as_u64().unwrap() < 10,
            "{call}"
        ),
        _ => panic!("{call}"),
    }
}

#[test]
fn a_required_call_is_always_valid() {
    for special in [false, true] {
        let (vocabulary, pieces) = vocabulary(special);
        for format in FORMATS {
            for choice in [ToolChoice::Required, ToolChoice::Named("turn_on".into())] {
                let whole = matcher(&vocabulary, format, &choice);
                for seed in 0..8 {
                    let run = run(&mut whole.clone(), &pieces, seed, seed % 2 == 0, 4000);
                    let text = lossy(&run.text);
                    assert!(run.complete, "{text}");
                    let calls = calls(format, &text);
                    for call in &calls {
                        assert_call(format, call);
                    }
                    if choice != ToolChoice::Required {
                        assert!(calls.len() == 1 && calls[0]["name"] == "turn_on", "{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_named_call_needs_few_decodes() {
    let (vocabulary, pieces) = vocabulary(true);
    let mut named = matcher(
        &vocabulary,
        CallFormat::Json,
        &ToolChoice::Named("turn_on".into()),
    );
    let run = run(&mut named, &pieces, 1, true, 100);
    assert!(run.decodes == 1, "{} {}", run.decodes, lossy(&run.text));
}

#[test]
fn the_trained_forms_fit() {
    let (vocabulary, pieces) = vocabulary(false);
    let call = r#"{"name": "turn_on", "arguments": {"area": "hall"}}"#;
    let llama = call.replace("arguments", "parameters");
    for (format, text) in [
        (
            CallFormat::Hermes,
            format!("<tool_call>\n{call}\n</tool_call>"),
        ),
        (
            CallFormat::Hermes,
            format!("<tool_call>\n{call}\n</tool_call>\n<tool_call>\n{call}\n</tool_call>"),
        ),
        (CallFormat::Llama, llama),
        (
            CallFormat::Mistral,
            format!("[TOOL_CALLS] [{call}, {call}]"),
        ),
        (CallFormat::Mistral, format!("[TOOL_CALLS][{call}]")),
        (CallFormat::Json, call.to_owned()),
    ] {
        let mut required = matcher(&vocabulary, format, &ToolChoice::Required);
        assert_eq!(fits(&mut required, &pieces, &text), (true, true), "{text}");
        let mut auto = matcher(&vocabulary, format, &ToolChoice::Auto);
        assert_eq!(fits(&mut auto, &pieces, &text), (true, true), "{text}");
    }
}

/// Which single tokens may come next.
fn allows(matcher: &mut Matcher, pieces: &[Vec<u8>], token: i32) -> bool {
    let mut logits = vec![0.0; pieces.len()];
    matcher.mask(&mut logits).unwrap();
    logits[usize::try_from(token).unwrap()].is_finite()
}

#[test]
fn free_text_is_free_until_a_call_begins() {
    for special in [false, true] {
        let (vocabulary, pieces) = vocabulary(special);
        let byte = |b: u8| i32::from(b);
        let mut auto = matcher(&vocabulary, CallFormat::Hermes, &ToolChoice::Auto);
        assert_eq!(
            fits(&mut auto, &pieces, "a <b> {\"x\": </tool_call> <tool_"),
            (true, true)
        );
        assert!(!auto.is_complete() && auto.forced().is_empty());
        if special {
            assert!(allows(&mut auto, &pieces, CALL));
            auto.accept(CALL).unwrap();
        } else {
            assert_eq!(fits(&mut auto, &pieces, "call"), (true, true));
            // `>\n` goes on well, `></` does not, and `>` leaves it open.
            let token = |text: &str| greedy(&pieces, text.as_bytes())[0];
            assert!(allows(&mut auto, &pieces, token(">\n")));
            assert!(allows(&mut auto, &pieces, token(">{")));
            assert!(!allows(&mut auto, &pieces, token("></")));
            assert!(allows(&mut auto, &pieces, byte(b'>')));
            auto.accept(token(">\n")).unwrap();
        }
        assert!(!allows(&mut auto, &pieces, END));
        assert!(!allows(&mut auto, &pieces, byte(b'x')));
        let call = r#"{"name": "turn_on", "arguments": {"area": "hall"}}"#;
        assert_eq!(fits(&mut auto, &pieces, call), (true, false));
        if special {
            assert!(allows(&mut auto, &pieces, CALL_END));
            auto.accept(CALL_END).unwrap();
        } else {
            assert_eq!(fits(&mut auto, &pieces, "\n</tool_call>"), (true, true));
        }
        // Free again, and bound again by the next call.
        assert!(fits(&mut auto, &pieces, "x <tool_call>").0);
        assert!(!allows(&mut auto, &pieces, byte(b'x')));
    }
}

#[test]
fn a_brace_begins_a_call_only_in_front() {
    let (vocabulary, pieces) = vocabulary(true);
    for format in [CallFormat::Llama, CallFormat::Json] {
        let mut text = matcher(&vocabulary, format, &ToolChoice::Auto);
        assert_eq!(fits(&mut text, &pieces, "Hm: {x}"), (true, true));
        let mut call = matcher(&vocabulary, format, &ToolChoice::Auto);
        assert_eq!(fits(&mut call, &pieces, " \n "), (true, true));
        let token = |text: &str| greedy(&pieces, text.as_bytes())[0];
        assert!(!allows(&mut call, &pieces, token("{}")));
        assert!(allows(&mut call, &pieces, token("{\"")));
        assert!(allows(&mut call, &pieces, token(" {")));
        call.accept(token("{")).unwrap();
        assert!(!allows(&mut call, &pieces, token("x")));
        assert!(!call.forced().is_empty());
    }
}

#[test]
fn by_lot_every_begun_call_is_valid() {
    let (vocabulary, pieces) = vocabulary(true);
    let whole = matcher(&vocabulary, CallFormat::Hermes, &ToolChoice::Auto);
    let mut seen = 0;
    for seed in 0..200 {
        let run = run(&mut whole.clone(), &pieces, seed, true, 4000);
        assert!(run.complete);
        let text = lossy(&run.text);
        for call in text.split("<tool_call>").skip(1) {
            let (call, _) = call
                .split_once("</tool_call>")
                .unwrap_or_else(|| panic!("{text}"));
            assert_call(CallFormat::Hermes, &serde_json::from_str(call).unwrap());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn nothing_to_watch() {
    let (vocabulary, _) = vocabulary(true);
    for (tools, choice) in [
        (tools(), ToolChoice::None),
        (vec![], ToolChoice::Auto),
        (vec![], ToolChoice::None),
    ] {
        let none = Matcher::for_tools(&vocabulary, CallFormat::Hermes, &tools, &choice).unwrap();
        assert!(none.is_none(), "{choice:?}");
    }
}

#[test]
fn wrong_tools_are_named() {
    let (vocabulary, _) = vocabulary(true);
    let tool =
        |parameters: Value| vec![json!({"function": {"name": "lamp", "parameters": parameters}})];
    let strict = json!({"function": {"name": "lamp", "strict": true, "parameters": {
        "type": "object", "properties": {"a": {"uniqueItems": true}}}}});
    let mut many = tools();
    many.resize(129, tools()[0].clone());
    for (tools, choice, kind, part) in [
        (
            tool(json!({"properties": {"a": {"type": "text"}}})),
            ToolChoice::Auto,
            FailureKind::InvalidSchema,
            "lamp",
        ),
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
            vec![strict],
            ToolChoice::Auto,
            FailureKind::InvalidSchema,
            "uniqueItems",
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
        let error =
            Matcher::for_tools(&vocabulary, CallFormat::Hermes, &tools, &choice).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    // What clients send beside the standard is taken, only without a promise.
    let loose = tool(
        json!({"properties": {"a": {"type": "array", "uniqueItems": true}, "b": {"format": "colour"}}}),
    );
    Matcher::for_tools(&vocabulary, CallFormat::Hermes, &loose, &ToolChoice::Auto).unwrap();
}
