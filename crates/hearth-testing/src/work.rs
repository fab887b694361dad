//! One request in an engine: its prompt, then its answer step by step.

use std::time::Duration;

use hearth_proto::{Event, FinishReason, GenerateRequest, Limits, Usage};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::answers::Step;
use crate::engine::Output;

/// One request in an engine.
pub(crate) struct Work {
    pub(crate) request: GenerateRequest,
    pub(crate) steps: Vec<Step>,
    pub(crate) usage: Usage,
    pub(crate) prefill_time: Duration,
    pub(crate) token_time: Duration,
    pub(crate) limits: watch::Receiver<Limits>,
    pub(crate) sender: mpsc::UnboundedSender<Output>,
}

impl Work {
    /// Answers one request; one step of the script after another, as the engine would.
    pub(crate) async fn run(mut self) {
        let id = self.request.id;
        let prefill_ms = self.prefill().await;
        let began = Instant::now();
        let mut pace = self.token_time;
        let resumed = u32::try_from(self.request.resume.len()).unwrap_or(u32::MAX);
        let room = self.request.context_max;
        let room = room.map(|max| max.saturating_sub(self.usage.prompt_tokens));
        let most = self.request.max_tokens.unwrap_or(u32::MAX);
        let most = most.min(room.unwrap_or(u32::MAX));
        let (mut generated, mut reason) = (0, FinishReason::Stop);
        let mut steps = std::mem::take(&mut self.steps);
        if self.request.prewarm {
            steps.clear();
        }
        for step in steps {
            match step {
                Step::Pace(time) => pace = time,
                Step::Token(_) if generated == most => {
                    reason = FinishReason::Length;
                    break;
                }
                Step::Token(parts) => {
                    generated += 1;
                    // The tokens that were sent already are not sent again.
                    if generated > resumed {
                        self.wait(pace).await;
                        self.send(Event::Token {
                            id,
                            parts,
                            generated,
                            tokens: vec![i32::try_from(generated).unwrap_or(i32::MAX)],
                            logprobs: Vec::new(),
                        });
                    }
                }
                // What was survived once is behind the answer.
                _ if generated < resumed => {}
                Step::Crash => return self.put(Output::Crash),
                Step::Hang => return self.put(Output::Hang),
                Step::Fail(failure) => return self.send(Event::Failed { id, failure }),
            }
        }
        let usage = Usage {
            completion_tokens: generated,
            prefill_ms,
            decode_ms: milliseconds(began),
            ..self.usage
        };
        self.send(Event::Finished {
            id,
            reason,
            stop_string: None,
            usage,
        });
    }

    /// Computes the prompt; returns how long that took.
    async fn prefill(&mut self) -> f64 {
        let id = self.request.id;
        let Usage {
            prompt_tokens,
            cached_tokens,
            ..
        } = self.usage;
        self.send(Event::Started {
            id,
            prompt_tokens,
            cached_tokens,
            from_disk: false,
        });
        let began = Instant::now();
        self.wait(self.prefill_time * (prompt_tokens - cached_tokens))
            .await;
        self.send(Event::Prefill {
            id,
            done: prompt_tokens,
            logprobs: Vec::new(),
        });
        milliseconds(began)
    }

    /// Lets time pass that counts only while the limits allow work.
    async fn wait(&mut self, time: Duration) {
        _ = self
            .limits
            .wait_for(|limits| !limits.paused && limits.duty.0 > 0)
            .await;
        if time.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(time).await;
        }
    }

    fn send(&self, event: Event) {
        self.put(Output::Event(event));
    }

    fn put(&self, output: Output) {
        // The session may have ended.
        _ = self.sender.send(output);
    }
}

/// Milliseconds since then, at least one: a paused clock may not have advanced.
fn milliseconds(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1000.0).max(1.0)
}
