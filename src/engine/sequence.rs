//! One request in the engine: from its tokens to its last event.

use super::backend::{Backend, DecodeError, Token};
use super::clock;
use crate::prompt::{Template, TextStream};
use crate::protocol::{
    Event, Failure, FailureKind, FinishReason, GenerateRequest, Prompt, RequestId, Usage,
};
use crate::scheduler::Work;

/// Bytes of text that one token of the context may stand for. Ordinary text has 2 to 5
/// a token; longer input is refused before it is tokenized, which cannot be aborted
/// and takes seconds a megabyte.
const BYTES_PER_TOKEN: usize = 32;

/// A request being worked on.
#[derive(Debug)]
pub(super) struct Sequence {
    id: RequestId,
    prompt: Vec<Token>,
    /// The token sampled last, not decoded yet.
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
        let context = backend.info().context_size;
        let text = match &request.prompt {
            Prompt::Chat { messages, tools } => &template.render(messages, tools)?,
            Prompt::Text(text) => text,
        };
        check_length(text, context)?;
        // Many templates write the begin token themselves; two of them harm the answer.
        let has_bos = !template.bos().is_empty() && text.starts_with(template.bos());
        let prompt = backend.tokenize(text, !has_bos);
        let count = as_u32(prompt.len());
        if count == 0 {
            return Err(Failure::invalid(
                "the prompt is empty: send at least one word",
            ));
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

    /// Tokens of the prompt.
    pub(super) fn prompt_tokens(&self) -> u32 {
        as_u32(self.prompt.len())
    }

    /// Does one step. Events go to `out`; `Some` is how the answer ended.
    pub(super) fn step<B: Backend>(
        &mut self,
        backend: &mut B,
        work: Work,
        out: &mut Vec<Event>,
    ) -> Option<Event> {
        let began = clock::now();
        let end = self.compute(backend, work, out);
        let ms = clock::ms_since(began);
        match work {
            Work::Prefill { .. } => self.prefill_ms += ms,
            Work::Decode { .. } => self.decode_ms += ms,
        }
        match end {
            Ok(None) => None,
            Ok(Some(reason)) => {
                self.flush(out);
                Some(self.finished(reason))
            }
            Err(error) => Some(self.failed(&error)),
        }
    }

    fn compute<B: Backend>(
        &mut self,
        backend: &mut B,
        work: Work,
        out: &mut Vec<Event>,
    ) -> Result<Option<FinishReason>, DecodeError> {
        match work {
            Work::Prefill { from, to, .. } => {
                backend.decode(&self.prompt[from as usize..to as usize], from)?;
                out.push(Event::Prefill {
                    id: self.id,
                    done: to,
                });
            }
            Work::Decode { position } => {
                backend.decode(self.next.as_slice(), position)?;
            }
        }
        if work.samples() {
            self.choose(backend, out)
        } else {
            Ok(None)
        }
    }

    /// Samples the next token and emits its text.
    fn choose<B: Backend>(
        &mut self,
        backend: &mut B,
        out: &mut Vec<Event>,
    ) -> Result<Option<FinishReason>, DecodeError> {
        if self.generated >= self.max_tokens {
            return Ok(Some(FinishReason::Length));
        }
        let token = backend.sample()?;
        if backend.is_end(token) {
            return Ok(Some(FinishReason::Stop));
        }
        self.generated += 1;
        let text = self.stream.push(&backend.piece(token));
        self.emit(text, out);
        self.next = Some(token);
        Ok(if self.stream.is_stopped() {
            Some(FinishReason::Stop)
        } else if self.generated >= self.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        })
    }

    fn emit(&self, text: String, out: &mut Vec<Event>) {
        out.push(Event::Token {
            id: self.id,
            text,
            generated: self.generated,
            tokens: Vec::new(),
            logprobs: Vec::new(),
        });
    }

    /// Emits what was held back for a stop string that did not come.
    fn flush(&mut self, out: &mut Vec<Event>) {
        let text = self.stream.finish();
        if !text.is_empty() {
            self.emit(text, out);
        }
    }

    fn finished(&self, reason: FinishReason) -> Event {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens(),
            cached_tokens: 0,
            completion_tokens: self.generated,
            prefill_ms: self.prefill_ms,
            decode_ms: self.decode_ms,
        };
        Event::Finished {
            id: self.id,
            reason,
            usage,
        }
    }

    fn failed(&self, error: &DecodeError) -> Event {
        let failure = match error {
            DecodeError::Aborted => Failure::cancelled(),
            error => Failure::new(FailureKind::Internal, format!("{error}; try again")),
        };
        Event::Failed {
            id: self.id,
            failure,
        }
    }
}

fn check_length(text: &str, context: u32) -> Result<(), Failure> {
    if text.len() / BYTES_PER_TOKEN < context as usize {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::ContextTooLong,
        format!(
            "the prompt has {} bytes, far more than a context of {context} tokens holds: shorten \
             the prompt",
            text.len()
        ),
    ))
}

pub(super) fn as_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
