//! `OpenStream`: events as lines of JSON on a pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::Error;
use crate::prompt::Part;
use crate::protocol::{Failure, FailureKind, RequestId};
use crate::service::openai::{Offer, Reader, call_id};
use crate::service::{Caller, Service, StreamEvent};

/// Starts writing; returns the end to read from.
pub(super) fn start(
    service: &Service,
    caller: Caller,
    id: u64,
    offer: Offer,
    mut events: mpsc::UnboundedReceiver<StreamEvent>,
) -> Result<OwnedFd, Error> {
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut writer = pipe::Sender::from_owned_fd(writer.into()).map_err(failed)?;
    let service = service.clone();
    let mut lines = Lines {
        id: RequestId(id),
        reader: Reader::new(offer),
        generated: 0,
    };
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = closed(&writer) => None,
            };
            let Some(event) = event else { break };
            let mut text = String::new();
            for line in lines.of(event) {
                text.push_str(&line.to_string());
                text.push('\n');
            }
            // Who does not read holds a file of the daemon.
            let unread = Duration::from_secs(u64::from(service.config().queue.unread_s));
            let write = tokio::time::timeout(unread, writer.write_all(text.as_bytes()));
            if !matches!(write.await, Ok(Ok(()))) {
                break;
            }
        }
        // Nothing happens to a job that is over.
        _ = service.cancel_job(&caller, id);
    });
    Ok(reader.into())
}

/// Resolves when the reading end was closed.
async fn closed(writer: &pipe::Sender) {
    // A pipe without readers polls as an error on the writing end.
    if writer.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> Failure {
    Failure::new(FailureKind::Io, format!("cannot make a pipe: {error}"))
}

/// Makes lines of events.
#[derive(Debug)]
struct Lines {
    id: RequestId,
    reader: Reader,
    /// Tokens so far.
    generated: u32,
}

impl Lines {
    fn of(&mut self, event: StreamEvent) -> Vec<Value> {
        match event {
            StreamEvent::Queued { position } => {
                vec![json!({"type": "queued", "position": position})]
            }
            StreamEvent::Started {
                prompt_tokens,
                cached_tokens,
                in_reasoning,
                call_format,
            } => {
                self.reader.start(call_format, in_reasoning);
                vec![
                    json!({"type": "started", "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens}),
                ]
            }
            StreamEvent::Prefill { done } => vec![json!({"type": "prefill", "done": done})],
            StreamEvent::Token {
                text, generated, ..
            } => {
                self.generated = generated;
                let parts = self.reader.push(&text);
                self.parts(parts)
            }
            StreamEvent::Finished { reason, usage } => {
                let parts = self.reader.finish();
                let mut lines = self.parts(parts);
                let reason = self.reader.reason(reason);
                lines.push(json!({"type": "finished", "reason": reason, "usage": usage}));
                lines
            }
            StreamEvent::Failed(failure) => {
                vec![json!({"type": "failed", "kind": failure.kind, "message": failure.message})]
            }
        }
    }

    fn parts(&self, parts: Vec<(usize, Part)>) -> Vec<Value> {
        let generated = self.generated;
        let line = |(number, part)| match part {
            Part::Content(text) => json!({"type": "token", "text": text, "generated": generated}),
            Part::Reasoning(text) => {
                json!({"type": "reasoning", "text": text, "generated": generated})
            }
            Part::ToolCall(call) => json!({
                "type": "tool_call",
                "id": call_id(self.id, number),
                "name": call.name,
                "arguments": call.arguments,
                "generated": generated,
            }),
        };
        parts.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CallFormat, FinishReason, Usage};

    #[test]
    fn reasoning_and_calls_have_lines_of_their_own() {
        let mut lines = Lines {
            id: RequestId(7),
            reader: Reader::new(Offer {
                names: vec!["f".into()],
                one_call: false,
            }),
            generated: 0,
        };
        let mut written = lines.of(StreamEvent::Started {
            prompt_tokens: 3,
            cached_tokens: 2,
            in_reasoning: true,
            call_format: CallFormat::Hermes,
        });
        let call = "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>";
        for (text, generated) in [("Hm.", 1), ("</think>Yes <", 2), ("b>", 3), (call, 4)] {
            written.extend(lines.of(StreamEvent::Token {
                text: text.into(),
                generated,
                logprobs: Vec::new(),
            }));
        }
        let mut end = lines.of(StreamEvent::Finished {
            reason: FinishReason::Stop,
            usage: Usage::default(),
        });
        let end = end.pop().unwrap();
        assert_eq!(
            (&end["type"], &end["reason"]),
            (&json!("finished"), &json!("tool_calls"))
        );
        assert_eq!(
            written,
            [
                json!({"type": "started", "prompt_tokens": 3, "cached_tokens": 2}),
                json!({"type": "reasoning", "text": "Hm.", "generated": 1}),
                json!({"type": "token", "text": "Yes", "generated": 2}),
                json!({"type": "token", "text": " <b>", "generated": 3}),
                json!({"type": "tool_call", "id": "000007000", "name": "f",
                    "arguments": {"x": 1}, "generated": 4}),
            ]
        );
    }

    #[test]
    fn what_was_held_back_comes_before_the_end() {
        let mut lines = Lines {
            id: RequestId(7),
            reader: Reader::new(Offer::default()),
            generated: 0,
        };
        let failed = lines.of(StreamEvent::Failed(Failure::cancelled()));
        assert_eq!(failed[0]["kind"], "cancelled");
        assert!(
            lines
                .of(StreamEvent::Token {
                    text: "<thi".into(),
                    generated: 2,
                    logprobs: Vec::new(),
                })
                .is_empty()
        );
        let end = lines.of(StreamEvent::Finished {
            reason: FinishReason::Length,
            usage: Usage::default(),
        });
        assert_eq!(
            end[0],
            json!({"type": "token", "text": "<thi", "generated": 2})
        );
        assert_eq!((end.len(), &end[1]["reason"]), (2, &json!("length")));
    }
}
