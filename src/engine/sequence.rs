//! One request in the engine: from its tokens to its last event.

use std::time::Instant;

use super::backend::{Backend, DecodeError, Token};
use crate::prompt::{Template, TextStream};
use crate::protocol::{
    Event, Failure, FailureKind, FinishReason, GenerateRequest, Prompt, RequestId, Usage,
};

/// A request being worked on.
#[derive(Debug)]
pub(super) struct Sequence {
    id: RequestId,
    prompt: Vec<Token>,
    /// Tokens decoded so far: the position of the next one.
    position: u32,
    next: Option<Token>,
    generated: u32,
    max_tokens: u32,
    stream: TextStream,
    prefill_ms: f64,
    decode_ms: f64,
}

impl Sequence {
    /// Renders, tokenizes and checks a request.
    pub(super) fn begin<B: Backend>(
        backend: &mut B,
        template: &Template,
        request: &GenerateRequest,
    ) -> Result<Self, Failure> {
        let prompt = match &request.prompt {
            Prompt::Chat { messages, tools } => {
                backend.tokenize(&template.render(messages, tools)?, true)
            }
            Prompt::Text(text) => backend.tokenize(text, false),
        };
        let context = backend.info().context_size;
        let count = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Failure::invalid("the prompt is empty: send at least one word"));
        }
        if count >= context {
            return Err(Failure::new(
                FailureKind::ContextTooLong,
                format!(
                    "the prompt has {count} tokens, the context holds {context}: shorten the prompt, \
                     or raise `model.context` in hearthd.toml"
                ),
            ));
        }
        backend.begin_sampling(&request.sampling, &prompt)?;
        backend.clear();
        Ok(Self {
            id: request.id,
            position: 0,
            next: None,
            generated: 0,
            max_tokens: request.max_tokens.unwrap_or(u32::MAX).min(context - count),
            stream: TextStream::new(&request.stop),
            prefill_ms: 0.0,
            decode_ms: 0.0,
            prompt,
        })
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn started(&self) -> Event {
        Event::Started {
            id: self.id,
            prompt_tokens: u32::try_from(self.prompt.len()).unwrap_or(u32::MAX),
            cached_tokens: 0,
        }
    }

    /// Whether the next tick is prefill.
    pub(super) fn in_prefill(&self) -> bool {
        (self.position as usize) < self.prompt.len()
    }

    /// One unit of work: a chunk of the prompt, or one token. Returns whether the
    /// answer is over; events go to `out`.
    pub(super) fn tick<B: Backend>(
        &mut self,
        backend: &mut B,
        prefill_chunk: u32,
        out: &mut Vec<Event>,
    ) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the engine measures its own work")]
        let began = Instant::now();
        let was_prefill = self.in_prefill();
        let decoded = match self.next {
            None => {
                let from = self.position as usize;
                let to = (from + prefill_chunk.max(1) as usize).min(self.prompt.len());
                let decoded = backend.decode(&self.prompt[from..to], self.position);
                self.position = u32::try_from(to).unwrap_or(u32::MAX);
                decoded
            }
            Some(token) => {
                let decoded = backend.decode(&[token], self.position);
                self.position += 1;
                decoded
            }
        };
        let over = match decoded {
            Ok(()) if self.in_prefill() => {
                out.push(Event::Prefill {
                    id: self.id,
                    done: self.position,
                });
                None
            }
            Ok(()) => self.choose(backend, out),
            Err(error) => Some(Err(error)),
        };
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        if was_prefill {
            self.prefill_ms += ms;
        } else {
            self.decode_ms += ms;
        }
        match over {
            None => false,
            Some(end) => {
                out.push(self.last_event(end));
                true
            }
        }
    }

    /// Samples the next token and emits its text.
    fn choose<B: Backend>(
        &mut self,
        backend: &mut B,
        out: &mut Vec<Event>,
    ) -> Option<Result<FinishReason, DecodeError>> {
        let token = backend.sample();
        if backend.is_end(token) {
            self.flush(out);
            return Some(Ok(FinishReason::Stop));
        }
        self.generated += 1;
        let text = self.stream.push(&backend.piece(token));
        out.push(Event::Token {
            id: self.id,
            text,
            generated: self.generated,
        });
        if self.stream.is_stopped() {
            return Some(Ok(FinishReason::Stop));
        }
        if self.generated >= self.max_tokens {
            self.flush(out);
            return Some(Ok(FinishReason::Length));
        }
        self.next = Some(token);
        None
    }

    fn flush(&mut self, out: &mut Vec<Event>) {
        let text = self.stream.finish();
        if !text.is_empty() {
            out.push(Event::Token {
                id: self.id,
                text,
                generated: self.generated,
            });
        }
    }

    fn last_event(&self, end: Result<FinishReason, DecodeError>) -> Event {
        let id = self.id;
        match end {
            Ok(reason) => Event::Finished {
                id,
                reason,
                usage: Usage {
                    prompt_tokens: u32::try_from(self.prompt.len()).unwrap_or(u32::MAX),
                    cached_tokens: 0,
                    completion_tokens: self.generated,
                    prefill_ms: self.prefill_ms,
                    decode_ms: self.decode_ms,
                },
            },
            Err(DecodeError::Aborted) => Event::Failed {
                id,
                failure: Failure::cancelled(),
            },
            Err(error) => Event::Failed {
                id,
                failure: Failure::new(FailureKind::Internal, format!("{error}; try again")),
            },
        }
    }
}
