//! The next tokens of an answer, and their text.

use hearth_policy::scheduler::Work;
use hearth_proto::{AnswerPart, Event, Failure, FinishReason, TokenLogprob, Usage};

use super::Sequence;
use crate::as_u32;
use crate::backend::{Backend, Decoder, Mask, Token, Tokenizer};

impl<S> Sequence<S> {
    /// Processes tokens of the answer whose text the client already has.
    pub(super) fn replay(
        &mut self,
        backend: &impl Tokenizer,
        tokens: &[Token],
    ) -> Result<(), Failure> {
        for token in tokens {
            // The client has them.
            _ = self.read(backend, *token);
            if let Some(matcher) = &mut self.matcher {
                matcher.accept(*token)?;
            }
        }
        self.tokens.extend(tokens);
        Ok(())
    }

    /// A token's text in this answer.
    fn piece(&self, backend: &impl Tokenizer, token: Token) -> Vec<u8> {
        let control = self.controls.iter().find(|(id, _)| *id == token);
        control.map_or_else(|| backend.piece(token), |(_, name)| name.clone().into())
    }

    /// Reads a token of the answer; returns the parts that are now complete.
    fn read(&mut self, backend: &impl Tokenizer, token: Token) -> Vec<AnswerPart> {
        let piece = self.piece(backend, token);
        self.tracker.wrote(&piece);
        let parts = self.reader.push(&self.stream.push(&piece));
        self.with_confidence(parts)
    }

    /// Chooses the token after part number `part`, adds those that the constraint then
    /// forces, and emits their text; `Some` where the answer ends.
    pub(crate) fn choose<B: Backend<Sampler = S>>(
        &mut self,
        backend: &mut B,
        part: usize,
        out: &mut Vec<Event>,
    ) -> Result<Option<FinishReason>, Failure> {
        if self.generated >= self.max_tokens {
            return Ok(Some(FinishReason::Length));
        }
        let matcher = self.matcher.as_mut();
        let mut mask = matcher.map(|matcher| |logits: &mut [f32]| matcher.mask(logits));
        let mask = mask.as_mut().map(|mask| mask as Mask<'_>);
        let sampled = backend.sample(&mut self.sampler, part, mask, self.logprobs)?;
        if backend.is_end(sampled.token) {
            return Ok(Some(FinishReason::Stop));
        }
        if let Some(choice) = &sampled.choice {
            self.tracker.chose(choice, |token| backend.piece(token));
        }
        let tokens = self.with_forced(sampled.token)?;
        let mut parts = Vec::new();
        for token in &tokens {
            let more = self.read(backend, *token);
            let is_reasoning = |part: &AnswerPart| matches!(part, AnswerPart::Reasoning(_));
            self.reasoning_tokens += u32::from(more.iter().any(is_reasoning));
            parts.extend(more);
        }
        backend.accept(&mut self.sampler, &tokens, true);
        self.tokens.extend(&tokens);
        self.generated += as_u32(tokens.len());
        let logprobs = sampled.logprobs;
        out.push(Event::Token {
            id: self.id,
            parts,
            generated: self.generated,
            logprobs: logprobs.map_or_else(Vec::new, |l| logprobs_of(backend, &tokens, l)),
            tokens,
        });
        Ok(self.ended())
    }

    /// A chosen token and those that the constraint then forces, as far as the answer may
    /// get longer.
    fn with_forced(&mut self, chosen: Token) -> Result<Vec<Token>, Failure> {
        let mut tokens = vec![chosen];
        if let Some(matcher) = &mut self.matcher {
            matcher.accept(chosen)?;
            for token in matcher.forced() {
                matcher.accept(token)?;
                tokens.push(token);
            }
        }
        let room = (self.max_tokens - self.generated) as usize;
        self.is_cut = tokens.len() > room;
        tokens.truncate(room);
        Ok(tokens)
    }

    /// The stop string of the request that ended the answer; the template's are none.
    fn stop_string(&self) -> Option<String> {
        let stopped_by = self.stream.stopped_by()?;
        let mut own = self.own_stops.iter();
        own.find(|stop| *stop == stopped_by).cloned()
    }

    /// The probabilities of the prompt's tokens after those of `work`, whose first is part
    /// number `part` of the batch, if they are requested.
    pub(super) fn logprobs_of_prompt(
        &self,
        backend: &(impl Decoder + Tokenizer),
        work: Work,
        part: usize,
    ) -> Vec<TokenLogprob> {
        if !self.reports_prompt {
            return Vec::new();
        }
        let (from, to) = work.range();
        let top = self.logprobs.unwrap_or_default();
        let next = (from + 1..=to).take_while(|at| *at < self.prompt_tokens);
        let tokens = next.filter_map(|at| self.tokens.get(at as usize));
        let after = (part..).zip(tokens).flat_map(|(part, token)| {
            logprobs_of(backend, &[*token], backend.logprobs(part, *token, top))
        });
        // Nothing precedes the first token.
        let first = self.tokens.first().filter(|_| from == 0);
        let first = first.map(|token| logprobs_of(backend, &[*token], (0.0, Vec::new())));
        first.into_iter().flatten().chain(after).collect()
    }

    /// Adds the model's confidence to the calls among the parts.
    fn with_confidence(&mut self, mut parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
        for part in &mut parts {
            if let AnswerPart::ToolCall(call) = part {
                call.confidence = Some(self.tracker.take());
            }
        }
        parts
    }

    /// Emits the text that was held back for a stop string that did not occur, and the
    /// end.
    pub(crate) fn finish(&mut self, reason: FinishReason, out: &mut Vec<Event>) {
        let text = self.stream.finish();
        let mut parts = self.reader.push(&text);
        parts.extend(self.reader.finish(reason));
        let parts = self.with_confidence(parts);
        if !parts.is_empty() {
            out.push(Event::Token {
                id: self.id,
                parts,
                generated: self.generated,
                tokens: Vec::new(),
                logprobs: Vec::new(),
            });
        }
        out.push(Event::Finished {
            id: self.id,
            reason,
            stop_string: self.stop_string(),
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: self.cached_tokens,
                completion_tokens: self.generated,
                reasoning_tokens: self.reasoning_tokens,
                prefill_ms: self.prefill_ms,
                decode_ms: self.decode_ms,
            },
        });
    }
}

/// The log-probabilities of a chosen token, and of those that were forced after it.
fn logprobs_of(
    backend: &impl Tokenizer,
    tokens: &[Token],
    (logprob, top): (f32, Vec<(Token, f32)>),
) -> Vec<TokenLogprob> {
    let top_ids = top.iter().map(|(token, _)| *token).collect();
    let top = top.into_iter();
    let top = top.map(|(token, logprob)| (backend.piece(token), logprob));
    let mut chosen = Some((logprob, top.collect(), top_ids));
    let one = |token: &Token| {
        // No token but a forced one was allowed: its probability is one.
        let (logprob, top, top_ids) = chosen.take().unwrap_or_default();
        TokenLogprob {
            id: *token,
            bytes: backend.piece(*token),
            logprob,
            top,
            top_ids,
        }
    };
    tokens.iter().map(one).collect()
}
