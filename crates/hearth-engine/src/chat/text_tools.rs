//! Tools for models whose chat template does not support them: described in the system
//! prompt, called and answered in text.

use std::fmt::Write as _;

use hearth_proto::Message;
use serde_json::Value;

/// A template with the format of calls that [`fold`] describes to the model; the chat
/// layer derives from it how calls are parsed. The model's own template renders the
/// prompt.
pub(super) const TEMPLATE: &str = "\
{%- if tools %}{{- '<|im_start|>system\\n<tools>\\n' }}\
{%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}\
{{- '</tools>\\n<tool_call>\\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}\
{%- endif %}\
{%- for message in messages %}\
{%- if message.role == 'assistant' %}\
{{- '<|im_start|>assistant\\n' }}\
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}\
{%- if message.content %}{{- message.content }}{%- endif %}\
{%- for call in message.tool_calls or [] %}\
{{- '\\n<tool_call>\\n{\"name\": \"' + call.function.name + '\", \"arguments\": ' }}\
{{- call.function.arguments | tojson }}\
{{- '}\\n</tool_call>' }}\
{%- endfor %}\
{{- '<|im_end|>\\n' }}\
{%- elif message.role == 'tool' %}\
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}\
{%- else %}\
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
{%- endif %}\
{%- endfor %}\
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/// The tag that begins reasoning in [`TEMPLATE`].
pub(super) const THINKING_START: &str = "<think>";

/// The tags around a call in [`TEMPLATE`].
pub(super) const MARKS: [&str; 2] = ["<tool_call>", "</tool_call>"];

/// The conversation with its tools, calls and results as text; unchanged where there are
/// none.
pub(super) fn fold(messages: &[Message], tools: &[Value]) -> Vec<Message> {
    let mut folded: Vec<Message> = Vec::new();
    let mut rest = messages;
    if !tools.is_empty() {
        let mut system = Message {
            role: "system".into(),
            ..Message::default()
        };
        if let Some((first, behind)) = rest.split_first()
            && first.role == "system"
        {
            system.content = format!("{}\n\n", first.content);
            rest = behind;
        }
        describe(tools, &mut system.content);
        folded.push(system);
    }
    let mut after_result = false;
    for message in rest {
        let is_result = message.role == "tool";
        let message = if is_result {
            result(message)
        } else {
            with_calls(message)
        };
        match folded.last_mut() {
            // Templates without tool support require alternating questions and answers.
            Some(last) if is_result && after_result => {
                last.content.push('\n');
                last.content.push_str(&message.content);
            }
            _ => folded.push(message),
        }
        after_result = is_result;
    }
    folded
}

fn describe(tools: &[Value], out: &mut String) {
    out.push_str(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
    );
    for tool in tools {
        _ = writeln!(out, "{tool}");
    }
    out.push_str(
        "</tools>\n\nFor each function call, return a json object with function name and \
         arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": \
         <function-name>, \"arguments\": <args-json-object>}\n</tool_call>",
    );
}

fn result(message: &Message) -> Message {
    Message::user(format!(
        "<tool_response>\n{}\n</tool_response>",
        message.content
    ))
}

fn with_calls(message: &Message) -> Message {
    let mut message = message.clone();
    for call in std::mem::take(&mut message.tool_calls) {
        let function = &call["function"];
        if !message.content.is_empty() {
            message.content.push('\n');
        }
        _ = write!(
            message.content,
            "<tool_call>\n{{\"name\": {}, \"arguments\": {}}}\n</tool_call>",
            function["name"], function["arguments"]
        );
    }
    message.tool_call_id = None;
    message
}
