//! A real model calls tools, over every transport, with twelve tools like Home
//! Assistant's.

use std::fs;

use serde_json::{Value, json};

use crate::client::{Bus, Options};
use crate::harness::{Daemon, Engine, Setup, ok};
use crate::real_models::real_model;

const NAME: &str = "qwen2.5-coder-0.5b";
const QUESTION: &str = "Turn on the kitchen light.";

/// The daemon with only this model; `None` if the model is not available.
fn daemon() -> Option<Daemon> {
    let model = real_model(NAME)?;
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ndefault = \"tools\"\ncontext = 4096\n",
        ..Setup::default()
    });
    fs::copy(model, daemon.models().join("tools.gguf")).unwrap();
    Some(daemon)
}

fn tool(name: &str, properties: &Value, required: &[&str]) -> Value {
    json!({"type": "function", "function": {"name": name, "description": format!("{name} of a device"),
        "parameters": {"type": "object", "properties": properties, "required": required}}})
}

fn tools() -> Vec<Value> {
    let place = json!({"name": {"type": "string"}, "area": {"type": "string"}});
    vec![
        tool("HassTurnOn", &place, &["name"]),
        tool("HassTurnOff", &place, &["name"]),
        tool(
            "HassLightSet",
            &json!({"name": {"type": "string"}, "brightness": {"type": "integer", "minimum": 0, "maximum": 100}}),
            &["name"],
        ),
        tool(
            "HassSetPosition",
            &json!({"name": {"type": "string"}, "position": {"type": "integer"}}),
            &["name", "position"],
        ),
        tool(
            "HassClimateSetTemperature",
            &json!({"temperature": {"type": "number"}}),
            &["temperature"],
        ),
        tool(
            "HassListAddItem",
            &json!({"item": {"type": "string"}, "name": {"type": "string"}}),
            &["item", "name"],
        ),
        tool("HassVacuumStart", &place, &["name"]),
        tool("HassMediaPause", &place, &[]),
        tool(
            "HassStartTimer",
            &json!({"minutes": {"type": "integer"}}),
            &["minutes"],
        ),
        tool(
            "HassGetState",
            &json!({"name": {"type": "string"}, "domain": {"enum": ["light", "lock"]}}),
            &["name"],
        ),
        tool("HassNevermind", &json!({}), &[]),
        tool("GetLiveContext", &json!({}), &[]),
    ]
}

fn request(choice: &Value) -> Value {
    json!({"model": "tools", "temperature": 0, "max_tokens": 100, "tools": tools(), "tool_choice": choice,
        "messages": [{"role": "system", "content": "You control the devices of a home."},
            {"role": "user", "content": QUESTION}]})
}

/// A call of an offered tool, with its required arguments.
fn assert_call(name: &Value, arguments: &Value) {
    let offered = tools();
    let tool = offered
        .iter()
        .find(|tool| tool["function"]["name"] == *name);
    let function = &tool.unwrap_or_else(|| panic!("{name} was not offered"))["function"];
    for required in function["parameters"]["required"].as_array().unwrap() {
        assert!(
            !arguments[required.as_str().unwrap()].is_null(),
            "{name} {arguments}"
        );
    }
}

fn arguments(function: &Value) -> Value {
    serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap()
}

fn assert_no_markup(content: &Value) {
    let content = content.as_str().unwrap_or_default();
    for mark in ["<tool_call>", "</tool_call>", "<|im_"] {
        assert!(!content.contains(mark), "{content}");
    }
}

#[test]
fn http_tool_calls_follow_every_tool_choice() {
    let Some(daemon) = daemon() else { return };
    let named = json!({"type": "function", "function": {"name": "HassLightSet"}});
    for choice in [json!("auto"), json!("required"), named.clone()] {
        let answer = daemon.chat(&request(&choice).to_string());
        let message = &answer["choices"][0]["message"];
        assert_no_markup(&message["content"]);
        let calls = message["tool_calls"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for call in &calls {
            let function = &call["function"];
            assert_call(&function["name"], &arguments(function));
        }
        assert!(choice == "auto" || !calls.is_empty(), "{choice}: {answer}");
        assert!(
            choice != named
                || calls
                    .iter()
                    .all(|c| c["function"]["name"] == "HassLightSet")
        );
        let reason = if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        assert_eq!(answer["choices"][0]["finish_reason"], reason, "{answer}");
    }
}

#[test]
fn http_streams_a_call_and_answers_its_result() {
    let Some(daemon) = daemon() else { return };
    let mut body = request(&json!("required"));
    body["stream"] = true.into();
    body["parallel_tool_calls"] = false.into();
    let streamed = ok(&daemon.curl("/v1/chat/completions", &["-N", "-d", &body.to_string()]));
    let chunks = streamed
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let chunks: Vec<Value> = chunks
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let calls: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .collect();
    let [call] = calls[..] else {
        panic!("{streamed}")
    };
    assert_call(&call["function"]["name"], &arguments(&call["function"]));

    // The result is sent back, and the answer to it is text.
    let mut body = request(&json!("none"));
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    messages.push(
        json!({"role": "tool", "tool_call_id": call["id"], "content": "{\"success\": true}"}),
    );
    let answer = daemon.chat(&body.to_string());
    let content = &answer["choices"][0]["message"]["content"];
    assert!(
        content.as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    assert_no_markup(content);
}

#[test]
fn a_truncated_call_is_neither_a_call_nor_text() {
    let Some(daemon) = daemon() else { return };
    let mut body = request(&json!("required"));
    body["max_tokens"] = 6.into();
    let answer = daemon.chat(&body.to_string());
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], "", "{answer}");
}

#[test]
fn tool_calls_work_over_dbus_and_the_api_of_ollama() {
    let Some(daemon) = daemon() else { return };
    let bus = Bus::connect(&daemon);
    let mut pipe = bus
        .open_stream(&request(&json!("required")), &Options::new())
        .unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut pipe, &mut told).unwrap();
    let events: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let call = events.iter().find(|event| event["type"] == "tool_call");
    let call = call.unwrap_or_else(|| panic!("{told}"));
    assert_call(&call["name"], &call["arguments"]);
    let sure = call["confidence"]["probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&sure), "{call}");

    let mut body = request(&json!("required"));
    body["stream"] = false.into();
    body["options"] = json!({"temperature": 0, "num_predict": 100});
    let answer = ok(&daemon.curl("/api/chat", &["-d", &body.to_string()]));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let calls = answer["message"]["tool_calls"].as_array();
    let calls = calls.unwrap_or_else(|| panic!("{answer}"));
    for call in calls {
        assert_call(&call["function"]["name"], &call["function"]["arguments"]);
    }
    assert_no_markup(&answer["message"]["content"]);
}

#[test]
fn json_counts_as_a_call_in_lenient_mode() {
    let Some(daemon) = daemon() else { return };
    let choice = json!({"type": "string", "enum": ["Stove lamp", "Night lamp"]});
    let tool = json!({"type": "function", "function": {"name": "light", "description": "Turn on a lamp",
        "parameters": {"type": "object", "required": ["lamp"], "properties": {
            "lamp": {"type": "string", "x-hearthd-schema": choice}}}}});
    let mut asked = request(&json!("auto"));
    asked["tools"] = json!([tool]);
    asked["messages"][1]["content"] = "Night lamp on!".into();
    let prompt = daemon.chat(&asked.to_string());
    asked["tool_call_mode"] = "lenient".into();
    let answer = daemon.chat(&asked.to_string());
    // The tool choice is enforced and is not part of the prompt.
    assert_eq!(
        answer["usage"]["prompt_tokens"], prompt["usage"]["prompt_tokens"],
        "{answer}"
    );
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() < 220);
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null, "{answer}");
    let call = &message["tool_calls"][0]["function"];
    assert_eq!(arguments(call), json!({"lamp": "Night lamp"}), "{answer}");

    asked["tool_call_mode"] = "sometimes".into();
    let refused = daemon.chat(&asked.to_string())["error"]["message"].clone();
    assert!(
        refused.as_str().unwrap().contains("tool_call_mode"),
        "{refused}"
    );
}
