//! `OpenStream`: events as lines of JSON on a pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hearth_api::openai::call_id;
use hearth_proto::{AnswerPart, Failure, FailureKind, RequestId, StreamEvent};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::Error;
use crate::caller::Caller;
use crate::daemon::Daemon;
use crate::sessions::RunningTurn;

/// Writes the events of a job; returns the reading end.
pub(super) fn of_job(
    daemon: &Daemon,
    caller: Caller,
    id: RequestId,
    events: mpsc::UnboundedReceiver<StreamEvent>,
) -> Result<OwnedFd, Error> {
    let (reader, writer) = pipe_to_client()?;
    let daemon = daemon.clone();
    tokio::spawn(async move {
        write(unread_limit(&daemon), writer, id, events).await;
        // Cancelling a job that has ended has no effect.
        _ = daemon.jobs.cancel(&caller, id.number());
    });
    Ok(reader)
}

/// Finishes a turn of a session, and writes its events; returns the reading end.
pub(super) fn of_turn(daemon: &Daemon, turn: RunningTurn) -> Result<OwnedFd, Error> {
    let (reader, writer) = pipe_to_client()?;
    let (copy, events) = mpsc::unbounded_channel();
    let written = write(unread_limit(daemon), writer, turn.id(), events);
    tokio::spawn(async move {
        let answered = async {
            let show = |event| _ = copy.send(event);
            if let Err(failure) = turn.finish(Ok, show).await {
                _ = copy.send(StreamEvent::Failed(failure));
            }
            drop(copy);
            std::future::pending::<()>().await;
        };
        // Closing the pipe drops the turn, which cancels it.
        tokio::select! {
            () = written => {}
            () = answered => {}
        }
    });
    Ok(reader)
}

fn pipe_to_client() -> Result<(OwnedFd, pipe::Sender), Failure> {
    let (reader, writer) = io::pipe().map_err(failed)?;
    let writer = pipe::Sender::from_owned_fd(writer.into()).map_err(failed)?;
    Ok((reader.into(), writer))
}

/// How long a client may not read: it occupies a file descriptor of the daemon.
fn unread_limit(daemon: &Daemon) -> Duration {
    Duration::from_secs(u64::from(daemon.config.get().queue.unread_s))
}

/// Writes events as lines until they end, or the client no longer reads.
async fn write(
    limit: Duration,
    mut writer: pipe::Sender,
    id: RequestId,
    mut events: mpsc::UnboundedReceiver<StreamEvent>,
) {
    let mut lines = Lines {
        id,
        calls: 0,
        generated: 0,
    };
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
        let write = tokio::time::timeout(limit, writer.write_all(text.as_bytes()));
        if !matches!(write.await, Ok(Ok(()))) {
            break;
        }
    }
}

/// Resolves when the reading end is closed.
async fn closed(writer: &pipe::Sender) {
    // A pipe without readers polls as an error on the writing end.
    if writer.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> Failure {
    Failure::new(FailureKind::Io, format!("cannot create a pipe: {error}"))
}

/// Encodes events as lines.
#[derive(Debug)]
struct Lines {
    id: RequestId,
    /// Calls so far.
    calls: usize,
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
            } => {
                vec![
                    json!({"type": "started", "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens}),
                ]
            }
            StreamEvent::Prefill { done, .. } => vec![json!({"type": "prefill", "done": done})],
            StreamEvent::Token {
                parts, generated, ..
            } => {
                self.generated = generated;
                parts.into_iter().map(|part| self.part(part)).collect()
            }
            StreamEvent::Finished { reason, usage, .. } => {
                let reason = reason.with_calls(self.calls);
                vec![json!({"type": "finished", "reason": reason, "usage": usage})]
            }
            StreamEvent::Failed(failure) => {
                vec![json!({"type": "failed", "kind": failure.kind, "message": failure.message})]
            }
        }
    }

    fn part(&mut self, part: AnswerPart) -> Value {
        let generated = self.generated;
        match part {
            AnswerPart::Content(text) => {
                json!({"type": "token", "text": text, "generated": generated})
            }
            AnswerPart::Reasoning(text) => {
                json!({"type": "reasoning", "text": text, "generated": generated})
            }
            AnswerPart::ToolCall(call) => {
                let number = self.calls;
                self.calls += 1;
                let mut event = json!({
                    "type": "tool_call",
                    "id": call_id(self.id, number),
                    "name": call.name,
                    "arguments": call.arguments,
                    "generated": generated,
                });
                if let Some(confidence) = call.confidence {
                    event["confidence"] = json!(confidence);
                }
                event
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_proto::{FinishReason, ToolCall, Usage};

    #[test]
    fn reasoning_and_calls_have_lines_of_their_own() {
        let mut lines = Lines {
            id: RequestId(7),
            calls: 0,
            generated: 0,
        };
        let mut written = lines.of(StreamEvent::Started {
            prompt_tokens: 3,
            cached_tokens: 2,
        });
        let text = |text: &str| AnswerPart::Content(text.into());
        let pieces = [
            (vec![AnswerPart::Reasoning("Hm.".into())], 1),
            (vec![text("Yes")], 2),
            (Vec::new(), 3),
            (
                vec![AnswerPart::ToolCall(ToolCall::new("f", json!({"x": 1})))],
                4,
            ),
        ];
        for (parts, generated) in pieces {
            written.extend(lines.of(StreamEvent::Token {
                parts,
                generated,
                tokens: Vec::new(),
                logprobs: Vec::new(),
            }));
        }
        let mut end = lines.of(StreamEvent::Finished {
            reason: FinishReason::Stop,
            stop_string: None,
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
                json!({"type": "tool_call", "id": "000007000", "name": "f",
                    "arguments": {"x": 1}, "generated": 4}),
            ]
        );
    }

    #[test]
    fn a_failure_is_the_last_line() {
        let mut lines = Lines {
            id: RequestId(7),
            calls: 0,
            generated: 0,
        };
        let failed = lines.of(StreamEvent::Failed(Failure::cancelled()));
        assert_eq!((failed.len(), &failed[0]["kind"]), (1, &json!("cancelled")));
    }
}
