//! Converts requests to the format of the chat layer.

use hearth_constraint::relaxed_tool;
use hearth_proto::{GenerateRequest, Message, Thinking};
use serde_json::{Map, Value, json};

use crate::chat_shim::{ChatError, RenderRequest};

pub(super) fn render_request(request: &GenerateRequest, tools: &[Value]) -> RenderRequest {
    let mut kwargs = request.chat_template_kwargs.clone();
    if let Some(effort) = request.thinking.and_then(Thinking::effort) {
        kwargs.entry("reasoning_effort").or_insert(effort.into());
    }
    let switch = kwargs.get("enable_thinking").and_then(Value::as_bool);
    RenderRequest {
        tools: shown_tools(tools).iter().map(with_type).collect(),
        tool_choice: Some(if tools.is_empty() { "none" } else { "auto" }),
        parallel_tool_calls: !request.one_call,
        enable_thinking: switch.unwrap_or(request.thinking != Some(Thinking::Off)),
        chat_template_kwargs: kwargs,
        continue_final_message: request.continue_final_message,
        now: request.accepted_unix_s,
        ..RenderRequest::default()
    }
}

/// An example request with these tools; only the format of the answer to it is used.
pub(super) fn example(tools: &[Value]) -> RenderRequest {
    let tools: Vec<Value> = tools.iter().map(with_type).collect();
    RenderRequest {
        messages: vec![json!({"role": "user", "content": "?"})],
        tool_choice: Some(if tools.is_empty() { "none" } else { "auto" }),
        tools,
        parallel_tool_calls: true,
        enable_thinking: true,
        ..RenderRequest::default()
    }
}

/// The key of a schema that constrains a call in place of the enclosing one and is not
/// shown to the model: a list of all devices in each of many tools is long.
const UNSEEN: &str = "x-hearthd-schema";

/// Tools as they are shown to the model.
pub(super) fn shown_tools(tools: &[Value]) -> Vec<Value> {
    let mut tools = tools.to_vec();
    for tool in &mut tools {
        each_object(tool, &mut |map| {
            map.remove(UNSEEN);
        });
    }
    tools
}

/// Tools with the schemas that constrain their calls, as far as these can be guaranteed.
pub(super) fn bound_tools(tools: &[Value]) -> Vec<Value> {
    let mut tools = tools.to_vec();
    for tool in &mut tools {
        each_object(tool, &mut |map| {
            if let Some(Value::Object(schema)) = map.remove(UNSEEN) {
                *map = schema;
            }
        });
    }
    tools.iter().map(relaxed_tool).collect()
}

fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            change(map);
            map.values_mut()
                .for_each(|value| each_object(value, change));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, change)),
        _ => {}
    }
}

/// A tool with the fields that the layer requires.
pub(super) fn with_type(tool: &Value) -> Value {
    let mut tool = tool.clone();
    if let Some(map) = tool.as_object_mut() {
        map.entry("type").or_insert("function".into());
        if let Some(function) = map.get_mut("function").and_then(Value::as_object_mut) {
            for (key, empty) in [("description", json!("")), ("parameters", json!({}))] {
                let slot = function.entry(key).or_insert(empty.clone());
                if slot.is_null() {
                    *slot = empty;
                }
            }
        }
    }
    tool
}

/// A message in the format of the layer.
pub(super) fn as_openai(message: &Message) -> Value {
    // Markers in the text stand for pictures and sounds.
    let without_media = (!message.media.is_empty()).then(|| Message {
        media: Vec::new(),
        ..message.clone()
    });
    let message = without_media.as_ref().unwrap_or(message);
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if let Some(calls) = value.get_mut("tool_calls").and_then(Value::as_array_mut) {
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            call.entry("type").or_insert("function".into());
            let function = call.entry("function").or_insert_with(|| json!({}));
            if let Some(function) = function.as_object_mut() {
                function
                    .entry("arguments")
                    .or_insert_with(|| Map::new().into());
            }
        }
    }
    value
}

/// The error message of a template, without the layer's trace around it.
pub(super) fn reason(error: &ChatError) -> String {
    let text = error.to_string();
    let last = text.rsplit("Error: ").next().unwrap_or(&text);
    let last = last.rsplit("Jinja Exception: ").next().unwrap_or(last);
    let line = last.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or(last).trim().chars().take(300).collect()
}
