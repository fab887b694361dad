//! Events of an answer: the lines of a stream's pipe.

use hearth_proto::Usage;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use zbus::OwnedFd;

use crate::error::{Error, FailureName};

/// Reads the events of a stream, in order; the last one is `Finished` or `Failed`. Dropping it
/// closes the pipe, which cancels the answer.
#[derive(Debug)]
pub struct Events(Lines<BufReader<Receiver>>);

/// One line of the pipe.
#[derive(Debug)]
pub struct EventLine {
    /// As it was written: JSON, without the line's end.
    pub text: String,
    /// What it means.
    pub event: Event,
}

impl Events {
    /// Reads from the pipe that the service returned.
    ///
    /// # Errors
    /// It is no pipe.
    pub fn new(pipe: OwnedFd) -> Result<Self, Error> {
        let pipe = Receiver::from_owned_fd(pipe.into())?;
        Ok(Self(BufReader::new(pipe).lines()))
    }

    /// The next event; `None` where the stream ends. It ends without `Finished` or `Failed`
    /// only if the service does.
    ///
    /// # Errors
    /// The pipe cannot be read, or a line is no event.
    pub async fn next(&mut self) -> Result<Option<EventLine>, Error> {
        let Some(text) = self.0.next_line().await? else {
            return Ok(None);
        };
        let event = serde_json::from_str(&text)?;
        Ok(Some(EventLine { text, event }))
    }
}

/// An event of an answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// It waits.
    Queued {
        /// Requests ahead of it; 0: it is next.
        position: u32,
    },
    /// The engine has accepted it.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Of these, tokens from the prefix cache.
        #[serde(default)]
        cached_tokens: u64,
    },
    /// A part of the prompt was read.
    Prefill {
        /// Tokens of the prompt that are done.
        done: u64,
    },
    /// A piece of the text.
    Token {
        /// Its text.
        text: String,
        /// Tokens generated so far.
        #[serde(default)]
        generated: u32,
    },
    /// A piece of the model's reasoning before its answer.
    Reasoning {
        /// Its text.
        text: String,
        /// Tokens generated so far.
        #[serde(default)]
        generated: u32,
    },
    /// A complete call of a tool.
    ToolCall {
        /// The call.
        #[serde(flatten)]
        call: ToolCall,
        /// Tokens generated so far.
        #[serde(default)]
        generated: u32,
    },
    /// The answer is complete.
    Finished {
        /// `stop`, `length` or `tool_calls`.
        reason: String,
        /// Token counts and times.
        #[serde(default)]
        usage: Usage,
    },
    /// There is no answer, or no more of it.
    Failed {
        /// What failed.
        kind: FailureName,
        /// What to do next.
        message: String,
    },
    /// An event of a later version of the interface, to be ignored.
    #[serde(other)]
    Unknown,
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
    /// In the form that OpenAI's API uses.
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
    use hearth_proto::FailureKind;

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
                Event::Failed { kind, .. } => kind,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            failed("queue_full"),
            FailureName::Known(FailureKind::QueueFull)
        );
        assert_eq!(failed("too_dark"), FailureName::Other("too_dark".into()));
        let new = serde_json::from_str(r#"{"type":"picture","name":"x"}"#);
        assert!(matches!(new, Ok(Event::Unknown)));
    }
}
