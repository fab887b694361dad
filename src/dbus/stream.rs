//! `OpenStream`: events as lines of JSON on a pipe.

use std::io;
use std::os::fd::OwnedFd;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::Error;
use crate::protocol::{Failure, FailureKind};
use crate::service::{Caller, Service, StreamEvent};

/// Starts writing; returns the end to read from.
pub(super) fn start(
    service: &Service,
    caller: Caller,
    id: u64,
    mut events: mpsc::UnboundedReceiver<StreamEvent>,
) -> Result<OwnedFd, Error> {
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut writer = pipe::Sender::from_owned_fd(writer.into()).map_err(failed)?;
    let service = service.clone();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = closed(&writer) => None,
            };
            let Some(event) = event else { break };
            let mut line = line(&event).to_string();
            line.push('\n');
            if writer.write_all(line.as_bytes()).await.is_err() {
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

fn line(event: &StreamEvent) -> Value {
    match event {
        StreamEvent::Queued { position } => json!({"type": "queued", "position": position}),
        StreamEvent::Started {
            prompt_tokens,
            cached_tokens,
            ..
        } => {
            json!({"type": "started", "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens})
        }
        StreamEvent::Prefill { done } => json!({"type": "prefill", "done": done}),
        StreamEvent::Token {
            text, generated, ..
        } => {
            json!({"type": "token", "text": text, "generated": generated})
        }
        StreamEvent::Finished { reason, usage } => {
            json!({"type": "finished", "reason": reason, "usage": usage})
        }
        StreamEvent::Failed(failure) => {
            json!({"type": "failed", "kind": failure.kind, "message": failure.message})
        }
    }
}
