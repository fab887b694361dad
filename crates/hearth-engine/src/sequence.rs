//! One request in the engine: from its tokens to its last event.

use hearth_constraint::Matcher;
use hearth_policy::scheduler::{Lengths, Lookup, Work};
use hearth_proto::{
    AnswerPart, Event, Failure, FailureKind, FinishReason, GenerateRequest, Message, Overflow,
    Prompt, RequestId, Reuse, TokenLogprob, Usage,
};

use super::answer::AnswerReader;
use super::backend::{Backend, Mask, Part, Token};
use super::chat::{ChatLayer, ChatPrompt};
use super::confidence::Tracker;
use crate::text_stream::TextStream;

/// Bytes of text per token of the context. Ordinary text has 2 to 5; longer input is
/// refused before it is tokenized, which cannot be aborted and takes seconds per
/// megabyte.
const BYTES_PER_TOKEN: usize = 32;

/// A request in progress.
#[derive(Debug)]
pub(super) struct Sequence<S> {
    pub(super) id: RequestId,
    pub(super) uid: Option<u32>,
    /// Its sequence number in the KV cache.
    pub(super) seq: u32,
    /// The prompt's tokens, then the answer's.
    tokens: Vec<Token>,
    prompt_tokens: u32,
    /// Tokens of the stable prefix, which is worth writing to disk.
    stable: usize,
    /// Further numbers of tokens after which another prompt may diverge from this one.
    boundaries: Vec<usize>,
    /// Tokens of the prompt before those that the answer begins with.
    answer_at: usize,
    pub(super) reuse: Reuse,
    cached_tokens: u32,
    /// Whether the start was reported to the daemon.
    is_started: bool,
    generated: u32,
    max_tokens: u32,
    sampler: S,
    stream: TextStream,
    reader: AnswerReader,
    /// Control tokens that are text of this answer.
    controls: Vec<(Token, String)>,
    matcher: Option<Matcher>,
    tracker: Tracker,
    lookup: Lookup,
    logprobs: Option<u8>,
    prefill_ms: f64,
    decode_ms: f64,
}

impl<S> Sequence<S> {
    /// Starts a prompt, and replays the tokens that it resumes.
    pub(super) fn begin<B: Backend<Sampler = S>>(
        backend: &B,
        prompt: ReadyPrompt,
        request: &GenerateRequest,
        matcher: Option<Matcher>,
    ) -> Result<Self, Failure> {
        let context = backend.info().context_size;
        let tokens = prompt.tokens;
        let prompt_tokens = as_u32(tokens.len());
        let room = context - prompt_tokens;
        let max_tokens = match (request.prewarm, request.max_tokens) {
            (true, _) => 0,
            (false, most) => most.unwrap_or(u32::MAX).min(room),
        };
        let mut sampler = backend.sampler(&request.sampling)?;
        backend.accept(&mut sampler, &tokens, false);
        backend.accept(&mut sampler, &request.resume, true);
        let stops = [request.stop.as_slice(), &prompt.stops].concat();
        let mut sequence = Self {
            id: request.id,
            uid: request.uid,
            seq: 0,
            tokens,
            prompt_tokens,
            stable: 0,
            boundaries: Vec::new(),
            answer_at: prompt.answer_at,
            reuse: request.reuse,
            cached_tokens: 0,
            is_started: false,
            generated: as_u32(request.resume.len()),
            max_tokens,
            sampler,
            stream: TextStream::new(&stops),
            reader: prompt.reader,
            controls: prompt.controls,
            matcher,
            tracker: Tracker::default(),
            lookup: Lookup::default(),
            logprobs: request.logprobs,
            prefill_ms: 0.0,
            decode_ms: 0.0,
        };
        sequence.replay(backend, &request.resume)?;
        Ok(sequence)
    }

    /// Processes tokens of the answer whose text the client already has.
    fn replay<B: Backend>(&mut self, backend: &B, tokens: &[Token]) -> Result<(), Failure> {
        for token in tokens {
            let piece = self.piece(backend, *token);
            self.tracker.wrote(&piece);
            let text = self.stream.push(&piece);
            let parts = self.reader.push(&text);
            _ = self.with_confidence(parts);
            if let Some(matcher) = &mut self.matcher {
                matcher.accept(*token)?;
            }
        }
        self.tokens.extend(tokens);
        Ok(())
    }

    /// A token's text in this answer.
    fn piece<B: Backend>(&self, backend: &B, token: Token) -> Vec<u8> {
        let control = self.controls.iter().find(|(id, _)| *id == token);
        control.map_or_else(|| backend.piece(token), |(_, name)| name.clone().into())
    }

    /// All tokens known so far: the prompt's and the answer's.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Finds the prefix that other conversations share: system prompt and tools, up to
    /// the template's boundary.
    pub(super) fn find_stable<B: Backend<Sampler = S>>(
        &mut self,
        backend: &B,
        chat: &ChatLayer,
        request: &GenerateRequest,
    ) {
        self.stable = match &request.prompt {
            _ if request.prewarm => self.prompt_tokens as usize,
            Prompt::Text(_) => 0,
            Prompt::Chat { messages, tools } => {
                let text = chat
                    .stable_prefix(request, messages, tools)
                    .unwrap_or_default();
                let tokens = tokenize(backend, chat, &text);
                // Where a text is cut, its last tokens may differ.
                let same = self.tokens.iter().zip(tokens.iter().flatten());
                same.take_while(|(a, b)| a == b).count()
            }
        };
    }

    /// Records that another prompt began with the same `tokens` tokens and then diverged.
    pub(super) fn recurs(&mut self, tokens: u32) {
        if self.stable == 0 {
            self.stable = tokens as usize;
        }
    }

    /// Where the next turn of this conversation may diverge from this prompt: reasoning
    /// is not in later prompts. The last token is computed again for its logits.
    pub(super) fn answer_at(&self) -> usize {
        self.answer_at
            .min((self.prompt_tokens as usize).saturating_sub(1))
    }

    /// Records that another prompt may diverge from this one after `tokens` tokens.
    pub(super) fn parts_after(&mut self, tokens: usize) {
        self.boundaries.push(tokens);
    }

    /// Whether only its prompt is computed.
    pub(super) fn is_prewarm(&self) -> bool {
        self.max_tokens == 0
    }

    /// The lengths of its prompt and its stable prefix, and its boundaries.
    pub(super) fn lengths(&self) -> Lengths {
        let prompt = self.prompt_tokens as usize;
        let mut boundaries = vec![self.stable];
        boundaries.extend(&self.boundaries);
        boundaries.retain(|tokens| (1..prompt).contains(tokens));
        boundaries.sort_unstable();
        boundaries.dedup();
        Lengths {
            prompt,
            stable: self.stable,
            boundaries,
        }
    }

    /// Whether the answer is complete with its current tokens, and why.
    pub(super) fn ended(&mut self) -> Option<FinishReason> {
        let is_complete = self.matcher.as_mut().is_some_and(Matcher::is_complete);
        if self.stream.is_stopped() || self.generated > 0 && is_complete {
            Some(FinishReason::Stop)
        } else if self.generated > 0 && self.generated >= self.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Reports once that work begins, and how many tokens were found in the cache, in
    /// memory or on disk.
    pub(super) fn start(&mut self, cached_tokens: u32, from_disk: bool, out: &mut Vec<Event>) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        self.cached_tokens = cached_tokens.min(self.prompt_tokens);
        out.push(Event::Started {
            id: self.id,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            from_disk,
        });
    }

    /// Adds the tokens of `work` to a batch.
    pub(super) fn fill(&self, work: Work, parts: &mut Vec<Part>) {
        let (from, to) = work.range();
        let samples_at = work.samples().then(|| to - 1);
        let tokens = self.tokens.get(from as usize..to as usize);
        for (position, token) in (from..).zip(tokens.unwrap_or_default()) {
            parts.push(Part {
                token: *token,
                position,
                seq: self.seq,
                samples: Some(position) == samples_at,
            });
        }
    }

    /// Enables guesses of up to `most` tokens from earlier text (prompt lookup). Tokens
    /// that a constraint forces need no guess.
    pub(super) fn set_lookup(&mut self, most: u32) {
        if self.matcher.is_none() {
            self.lookup = Lookup::new(most as usize);
        }
    }

    /// Adds guesses of the next tokens to a batch, which checks them; returns how many.
    /// The last part is the last known token.
    pub(super) fn guess(&mut self, parts: &mut Vec<Part>) -> usize {
        let from = as_u32(self.tokens.len());
        let left = self.max_tokens.saturating_sub(self.generated);
        let guess = self.lookup.guess(&self.tokens);
        // The batch yields one token more than the correct guesses.
        let most = left.saturating_sub(1) as usize;
        let before = parts.len();
        let guess = (from..).zip(guess).take(most);
        parts.extend(guess.map(|(position, token)| Part {
            token: *token,
            position,
            seq: self.seq,
            samples: true,
        }));
        parts.len() - before
    }

    /// Records how many guesses were correct.
    pub(super) fn guessed(&mut self, guessed: usize, held: usize) {
        self.lookup.checked(guessed, held);
    }

    /// Records that `work` was decoded in a tick of `ms` milliseconds.
    pub(super) fn decoded(&mut self, work: Work, ms: f64, out: &mut Vec<Event>) {
        match work {
            Work::Prefill { to, .. } => {
                self.prefill_ms += ms;
                out.push(Event::Prefill {
                    id: self.id,
                    done: to.min(self.prompt_tokens),
                });
            }
            Work::Decode { .. } => self.decode_ms += ms,
        }
    }

    /// Chooses the token after part number `part`, adds those that the constraint then
    /// forces, and emits their text; `Some` where the answer ends.
    pub(super) fn choose<B: Backend<Sampler = S>>(
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
        let mut tokens = vec![sampled.token];
        if let Some(matcher) = &mut self.matcher {
            matcher.accept(sampled.token)?;
            for token in matcher.forced() {
                matcher.accept(token)?;
                tokens.push(token);
            }
        }
        tokens.truncate((self.max_tokens - self.generated) as usize);
        let logprobs = sampled.logprobs.map(|(logprob, top)| {
            let report = |token, logprob| (backend.piece(token), logprob);
            TokenLogprob {
                bytes: backend.piece(sampled.token),
                logprob,
                top: top.into_iter().map(|(t, l)| report(t, l)).collect(),
            }
        });
        let mut parts = Vec::new();
        // One by one, as `replay` does, so that the parts after each token are the same.
        for token in &tokens {
            let piece = self.piece(backend, *token);
            self.tracker.wrote(&piece);
            let read = self.reader.push(&self.stream.push(&piece));
            parts.extend(self.with_confidence(read));
        }
        backend.accept(&mut self.sampler, &tokens, true);
        self.tokens.extend(&tokens);
        self.generated += as_u32(tokens.len());
        let mut logprobs: Vec<TokenLogprob> = logprobs.into_iter().collect();
        if !logprobs.is_empty() {
            // No other token was allowed: their probability is one.
            logprobs.extend(tokens.iter().skip(1).map(|token| TokenLogprob {
                bytes: backend.piece(*token),
                logprob: 0.0,
                top: Vec::new(),
            }));
        }
        out.push(Event::Token {
            id: self.id,
            parts,
            generated: self.generated,
            tokens,
            logprobs,
        });
        Ok(self.ended())
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
    pub(super) fn finish(&mut self, reason: FinishReason, out: &mut Vec<Event>) {
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
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: self.cached_tokens,
                completion_tokens: self.generated,
                prefill_ms: self.prefill_ms,
                decode_ms: self.decode_ms,
            },
        });
    }
}

/// A tokenized prompt, and how its answer is parsed.
#[derive(Debug)]
pub(super) struct ReadyPrompt {
    /// At least one, and fewer than the context size.
    tokens: Vec<Token>,
    reader: AnswerReader,
    controls: Vec<(Token, String)>,
    stops: Vec<String>,
    /// Tokens before those that the answer begins with.
    answer_at: usize,
    /// As the chat layer rendered it; `None` for plain text.
    pub(super) chat: Option<ChatPrompt>,
}

impl ReadyPrompt {
    /// Renders and tokenizes a request's prompt.
    ///
    /// # Errors
    /// `ContextTooLong`, `InvalidArgs`, `InvalidSchema`.
    pub(super) fn new<B: Backend>(
        backend: &B,
        chat: &ChatLayer,
        request: &GenerateRequest,
    ) -> Result<Self, Failure> {
        let (messages, tools) = match &request.prompt {
            Prompt::Text(text) => return Ok(Self::plain(tokenize(backend, chat, text)?)),
            Prompt::Chat { messages, tools } => (messages, tools),
        };
        if request.prewarm
            && let Some(prefix) = chat.stable_prefix(request, messages, tools)
        {
            return Ok(Self::plain(tokenize(backend, chat, &prefix)?));
        }
        let render = |messages: &[Message]| {
            let prompt = chat.render(request, messages, tools)?;
            let tokens = tokenize(backend, chat, &prompt.text)?;
            Ok((tokens, prompt))
        };
        let too_long = |result: &Result<_, Failure>| matches!(result, Err(failure) if failure.kind == FailureKind::ContextTooLong);
        let mut result = render(messages);
        if request.overflow == Overflow::TruncateMiddle {
            let mut messages = messages.clone();
            while too_long(&result) && leave_out(&mut messages) {
                result = render(&messages);
            }
        }
        let (tokens, mut prompt) = result?;
        let named = |name: &String| Some((backend.named(name)?, name.clone()));
        let begun = backend.tokenize(&prompt.generation_prompt, false);
        let same = tokens.iter().rev().zip(begun.iter().rev());
        let begun = same.take_while(|(a, b)| a == b).count();
        Ok(Self {
            answer_at: tokens.len() - begun,
            tokens,
            controls: prompt.controls.iter().filter_map(named).collect(),
            stops: std::mem::take(&mut prompt.stops),
            reader: std::mem::replace(&mut prompt.reader, AnswerReader::plain()),
            chat: Some(prompt),
        })
    }

    fn plain(tokens: Vec<Token>) -> Self {
        Self {
            answer_at: tokens.len(),
            tokens,
            reader: AnswerReader::plain(),
            controls: Vec::new(),
            stops: Vec::new(),
            chat: None,
        }
    }
}

/// Removes the oldest turn, a question with all that follows up to the next one; system
/// messages and the latest turn stay. Returns whether there was one to remove.
fn leave_out(messages: &mut Vec<Message>) -> bool {
    let mut questions = (0..messages.len()).filter(|n| messages[*n].role == "user");
    let (Some(first), Some(next)) = (questions.next(), questions.next()) else {
        return false;
    };
    let mut at = 0..;
    messages.retain(|message| {
        let at = at.next().unwrap_or(0);
        !(first..next).contains(&at) || message.role == "system"
    });
    true
}

fn tokenize<B: Backend>(backend: &B, chat: &ChatLayer, text: &str) -> Result<Vec<Token>, Failure> {
    let context = backend.info().context_size;
    check_length(text, context)?;
    // Many templates write the BOS token themselves; two of them make the answer worse.
    let has_bos = !chat.bos().is_empty() && text.starts_with(chat.bos());
    let tokens = backend.tokenize(text, !has_bos);
    let count = as_u32(tokens.len());
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
    Ok(tokens)
}

pub(super) fn check_length(text: &str, context: u32) -> Result<(), Failure> {
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
