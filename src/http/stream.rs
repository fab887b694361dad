//! Streamed answers, independent of their encoding.

use std::time::Duration;

use hearth_api::{Chunks, Progress};
use hearth_proto::{Failure, StreamEvent};
use serde_json::Value;
use tokio::time::Instant;

use crate::dispatch::Candidates;

/// A failure within this time is returned with its HTTP status; after it, the stream starts.
const STATUS_WINDOW: Duration = Duration::from_secs(2);

/// Turns events into the objects that are sent to the client.
pub(super) struct Parts<C> {
    candidates: Candidates,
    chunks: C,
    paces: Vec<Pace>,
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
            paces: vec![Pace::default(); candidates.ids().len()],
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
                    parts,
                    generated,
                    tokens,
                    logprobs,
                } => {
                    let progress = self.pace(index).answer(generated);
                    self.chunks.advance(index, &progress, &tokens);
                    self.chunks.token(index, parts, logprobs)
                }
                StreamEvent::Finished {
                    reason,
                    stop_string,
                    usage,
                } => {
                    if let Some(stop) = &stop_string {
                        self.chunks.stopped_by(index, stop);
                    }
                    let last = self.chunks.finish(index, reason, &usage);
                    self.over = self.chunks.is_over();
                    last
                }
                StreamEvent::Failed(failure) => {
                    self.over = true;
                    return Some(Err(failure));
                }
                StreamEvent::Started {
                    prompt_tokens,
                    cached_tokens,
                } => {
                    let progress = self.pace(index).start(prompt_tokens, cached_tokens);
                    self.chunks.prompt(index, &progress)
                }
                StreamEvent::Prefill { done, .. } => {
                    let progress = self.pace(index).prompt(done);
                    self.chunks.prompt(index, &progress)
                }
                StreamEvent::Queued { .. } => Vec::new(),
            };
            self.ready.reverse();
        }
    }

    fn pace(&mut self, index: usize) -> &mut Pace {
        if index >= self.paces.len() {
            self.paces.resize(index + 1, Pace::default());
        }
        &mut self.paces[index]
    }
}

/// How far one answer is, and since when.
#[derive(Clone, Debug, Default)]
struct Pace {
    progress: Progress,
    began: Option<Instant>,
    first_token: Option<Instant>,
}

impl Pace {
    fn start(&mut self, prompt_tokens: u32, cached_tokens: u32) -> Progress {
        self.began = Some(Instant::now());
        self.progress = Progress {
            prompt_tokens,
            cached_tokens,
            done_tokens: cached_tokens,
            ..Progress::default()
        };
        self.progress
    }

    fn prompt(&mut self, done: u32) -> Progress {
        self.progress.done_tokens = done;
        self.progress.prompt_ms = self.began.map_or(0.0, milliseconds_since);
        self.progress
    }

    fn answer(&mut self, generated: u32) -> Progress {
        if self.first_token.is_none() {
            self.prompt(self.progress.prompt_tokens);
        }
        let first = *self.first_token.get_or_insert_with(Instant::now);
        self.progress.generated = generated;
        self.progress.answer_ms = milliseconds_since(first);
        self.progress
    }
}

fn milliseconds_since(when: Instant) -> f64 {
    when.elapsed().as_secs_f64() * 1000.0
}
