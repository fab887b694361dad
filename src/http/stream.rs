//! Streamed answers, independent of their encoding.

use std::time::Duration;

use hearth_api::Chunks;
use hearth_proto::{Failure, StreamEvent};
use serde_json::Value;

use crate::dispatch::Candidates;

/// A failure within this time is returned with its HTTP status; after it, the stream starts.
const STATUS_WINDOW: Duration = Duration::from_secs(2);

/// Turns events into the objects that are sent to the client.
pub(super) struct Parts<C> {
    candidates: Candidates,
    chunks: C,
    first: Option<(usize, StreamEvent)>,
    /// Objects to send, the next one last.
    ready: Vec<Value>,
    over: bool,
}

impl<C: Chunks> Parts<C> {
    /// Waits a short time for a failure, which can then still set the HTTP status.
    pub(super) async fn open(mut candidates: Candidates, mut chunks: C) -> Result<Self, Failure> {
        let begun = async {
            while let Some(event) = candidates.next().await {
                if !matches!(event.1, StreamEvent::Queued { .. }) {
                    return Some(event);
                }
            }
            None
        };
        let first = match tokio::time::timeout(STATUS_WINDOW, begun).await {
            Err(_) => None,
            Ok(Some((_, StreamEvent::Failed(failure)))) => return Err(failure),
            Ok(None) => return Err(Failure::cancelled()),
            Ok(event) => event,
        };
        let mut ready = chunks.open();
        ready.reverse();
        Ok(Self {
            candidates,
            chunks,
            first,
            ready,
            over: false,
        })
    }

    /// The encoder of the objects.
    pub(super) fn chunks(&mut self) -> &mut C {
        &mut self.chunks
    }

    /// The next object; `None` after the last. A failure is the last.
    pub(super) async fn next(&mut self) -> Option<Result<Value, Failure>> {
        loop {
            if let Some(object) = self.ready.pop() {
                return Some(Ok(object));
            }
            if self.over {
                return None;
            }
            let (index, event) = match self.first.take() {
                Some(event) => event,
                None => self.candidates.next().await?,
            };
            self.ready = match event {
                StreamEvent::Token {
                    parts, logprobs, ..
                } => self.chunks.token(index, parts, logprobs),
                StreamEvent::Finished { reason, usage, .. } => {
                    let last = self.chunks.finish(index, reason, &usage);
                    self.over = self.chunks.is_over();
                    last
                }
                StreamEvent::Failed(failure) => {
                    self.over = true;
                    return Some(Err(failure));
                }
                StreamEvent::Queued { .. }
                | StreamEvent::Started { .. }
                | StreamEvent::Prefill { .. } => Vec::new(),
            };
            self.ready.reverse();
        }
    }
}
