//! Events of an answer: the lines of the service's pipe.

use hearth_proto::{FailureKind, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::CtlError;

/// One line of the pipe.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Queued {
        position: u32,
    },
    Started {
        prompt_tokens: u64,
        #[serde(default)]
        cached_tokens: u64,
    },
    Prefill {
        done: u64,
    },
    Token {
        text: String,
        #[serde(default)]
        generated: u32,
    },
    Reasoning {
        text: String,
        #[serde(default)]
        generated: u32,
    },
    ToolCall {
        #[serde(flatten)]
        call: ToolCall,
        #[serde(default)]
        generated: u32,
    },
    Finished {
        reason: String,
        #[serde(default)]
        usage: Usage,
    },
    Failed {
        kind: Kind,
        message: String,
    },
    /// Events of later versions of the interface.
    #[serde(other)]
    Unknown,
}

/// The kind of a failure.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Kind {
    Known(FailureKind),
    /// A kind of a later version of the service.
    Later(String),
}

impl Kind {
    /// The failure as an error.
    pub fn error(self, message: String) -> CtlError {
        match self {
            Self::Known(kind) => CtlError::Service { kind, message },
            Self::Later(kind) => CtlError::Other { kind, message },
        }
    }
}

/// A call of a tool that was offered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ToolCall {
    /// Identifies the call within the conversation.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments: a JSON object.
    pub arguments: Value,
}

impl ToolCall {
    /// In the form that `OpenAI`'s API uses.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": { "name": self.name, "arguments": self.arguments.to_string() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_and_later_ones_skipped() {
        for line in [
            r#"{"type":"queued","position":2}"#,
            r#"{"type":"started","prompt_tokens":12,"cached_tokens":3}"#,
            r#"{"type":"prefill","done":9}"#,
            r#"{"type":"token","text":"a","generated":1}"#,
            r#"{"type":"reasoning","text":"a","generated":1}"#,
            r#"{"type":"tool_call","id":"1","name":"f","arguments":{},"generated":1}"#,
            r#"{"type":"finished","reason":"stop","usage":{"prompt_tokens":1,"cached_tokens":0,
                "completion_tokens":2,"prefill_ms":1.0,"decode_ms":2.5}}"#,
            r#"{"type":"failed","kind":"queue_full","message":"m"}"#,
        ] {
            let event: Event = serde_json::from_str(line).expect(line);
            assert!(!matches!(event, Event::Unknown), "{line}");
        }
        let failed = |kind: &str| {
            let line = format!(r#"{{"type":"failed","kind":"{kind}","message":"m"}}"#);
            match serde_json::from_str(&line).expect("an event") {
                Event::Failed { kind, message } => kind.error(message),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failed("queue_full").exit_code(), 5);
        assert_eq!(failed("too_dark").to_json()["error"]["kind"], "too_dark");
        let new = serde_json::from_str(r#"{"type":"picture","name":"x"}"#);
        assert!(matches!(new, Ok(Event::Unknown)));
    }
}
