//! Tool calls in an answer: the Hermes / Qwen form,
//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use serde_json::Value;

/// Where a call begins.
pub const OPEN: &str = "<tool_call>";
/// Where it ends.
pub const CLOSE: &str = "</tool_call>";

/// One call the model asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// Splits an answer into its text and its calls. What does not parse stays text:
/// a person may read it, a program must not run it.
pub fn split(answer: &str) -> (String, Vec<ToolCall>) {
    let mut text = String::new();
    let mut calls = Vec::new();
    let mut rest = answer;
    while let Some((before, after)) = rest.split_once(OPEN) {
        // The end may be missing where the model stopped right after the object.
        let (inside, behind) = after.split_once(CLOSE).unwrap_or((after, ""));
        text.push_str(before);
        if let Some(call) = parse(inside) {
            calls.push(call);
        } else {
            text.push_str(&rest[before.len()..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    text.push_str(rest);
    if !calls.is_empty() {
        text.truncate(text.trim_end().len());
    }
    (text, calls)
}

fn parse(inside: &str) -> Option<ToolCall> {
    let Value::Object(mut call) = serde_json::from_str(inside.trim()).ok()? else {
        return None;
    };
    let Some(Value::String(name)) = call.remove("name") else {
        return None;
    };
    let arguments = call
        .remove("arguments")
        .or_else(|| call.remove("parameters"))
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    arguments
        .is_object()
        .then_some(ToolCall { name, arguments })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_leave_the_text() {
        let (text, calls) = split(
            "Sure.\n<tool_call>\n{\"name\": \"turn_on\", \"arguments\": {\"name\": \"lamp\"}}\n</tool_call>\n\
             <tool_call>{\"name\": \"time\"}</tool_call>",
        );
        assert_eq!(text, "Sure.");
        assert_eq!(calls[0].name, "turn_on");
        assert_eq!(calls[0].arguments, json!({"name": "lamp"}));
        assert_eq!(calls[1].arguments, json!({}));
    }

    #[test]
    fn what_does_not_parse_stays_text() {
        for answer in [
            "<tool_call>{not json}</tool_call> after",
            "<tool_call>[1]</tool_call>",
            "<tool_call>{\"name\": 3}</tool_call>",
            "<tool_call>{\"name\": \"x\", \"arguments\": 3}</tool_call>",
            "no call",
        ] {
            assert_eq!(split(answer), (answer.to_owned(), vec![]), "{answer}");
        }
    }

    #[test]
    fn a_missing_end_is_forgiven() {
        let (text, calls) = split("<tool_call>{\"name\": \"x\", \"arguments\": {}}");
        assert_eq!((text.as_str(), calls.len()), ("", 1));
    }
}
