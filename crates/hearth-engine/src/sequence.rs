//! One request in the engine: from its tokens to its last event.

mod choose;
mod time_bound;

use hearth_constraint::Matcher;
use hearth_policy::scheduler::{DraftBackoff, Lengths, Lookup, Work};
use hearth_proto::{
    CacheScope, Event, Failure, FinishReason, GenerateRequest, Prompt, RequestId, Reuse,
    common_prefix,
};

use super::adapters::AdapterSet;
use super::answer::AnswerReader;
use super::as_u32;
use super::backend::{Backend, Decoder, Part, Token, Tokenizer};
use super::chat::ChatLayer;
use super::confidence::Tracker;
use super::pieces::Pieces;
use super::prompt::{TokenizedPrompt, context_of, room_of, tokenize};
use super::text_stream::TextStream;
use time_bound::TimeBound;

/// The drafts of a draft model for one answer.
#[derive(Debug, Default)]
struct ModelDrafts {
    /// The most tokens at once.
    most: u32,
    backoff: DraftBackoff,
    /// Whether the draft in the current batch is one of them.
    is_last: bool,
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Sequence<S> {
    pub(super) id: RequestId,
    pub(super) uid: Option<u32>,
    /// The adapters that it is computed with.
    pub(super) adapters: AdapterSet,
    /// Its sequence number in the KV cache.
    pub(super) seq: u32,
    /// The prompt's tokens, then the answer's.
    tokens: Vec<Token>,
    prompt_tokens: u32,
    /// The pictures and sounds among its tokens.
    pub(super) pieces: Pieces,
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
    time: TimeBound,
    /// Whether tokens that the matcher has accepted were left out for `max_tokens`.
    is_cut: bool,
    sampler: S,
    stream: TextStream,
    /// The stop strings that the request names.
    own_stops: Vec<String>,
    reader: AnswerReader,
    /// Control tokens that are text of this answer.
    controls: Vec<(Token, String)>,
    matcher: Option<Matcher>,
    tracker: Tracker,
    lookup: Lookup,
    model_drafts: ModelDrafts,
    logprobs: Option<u8>,
    /// Whether the probabilities of the prompt's tokens are reported, too.
    reports_prompt: bool,
    reasoning_tokens: u32,
    prefill_ms: f64,
    decode_ms: f64,
}

impl<S> Sequence<S> {
    /// Starts a prompt, and replays the tokens that it resumes.
    pub(super) fn begin<B: Backend<Sampler = S>>(
        backend: &B,
        prompt: TokenizedPrompt,
        request: &GenerateRequest,
        matcher: Option<Matcher>,
    ) -> Result<Self, Failure> {
        let adapters = AdapterSet::new(&request.lora, backend.adapters())?;
        let tokens = prompt.tokens;
        let prompt_tokens = as_u32(tokens.len());
        let room = room_of(backend, request, prompt_tokens);
        let max_tokens = match (request.prewarm, request.max_tokens) {
            (true, _) => 0,
            (false, most) => most.unwrap_or(u32::MAX).min(room),
        };
        let mut sampler = backend.sampler(&request.sampling)?;
        // A picture or sound is none of the texts that penalties count.
        let texts: Vec<Token> = tokens.iter().copied().filter(|t| *t >= 0).collect();
        backend.accept(&mut sampler, &texts, false);
        backend.accept(&mut sampler, &request.resume, true);
        let stops = [request.stop.as_slice(), &prompt.stops].concat();
        let mut sequence = Self {
            id: request.id,
            uid: request.uid,
            adapters,
            seq: 0,
            tokens,
            prompt_tokens,
            pieces: prompt.pieces,
            stable: 0,
            boundaries: Vec::new(),
            answer_at: prompt.answer_at,
            reuse: match request.reuse {
                Reuse::Allowed if request.prompt_logprobs => Reuse::Denied,
                reuse => reuse,
            },
            cached_tokens: 0,
            is_started: false,
            generated: as_u32(request.resume.len()),
            max_tokens,
            time: TimeBound::new(request.predict_ms),
            is_cut: false,
            sampler,
            stream: TextStream::new(&stops),
            own_stops: request.stop.clone(),
            reader: prompt.reader,
            controls: prompt.controls,
            matcher,
            tracker: Tracker::default(),
            lookup: Lookup::default(),
            model_drafts: ModelDrafts::default(),
            logprobs: request.logprobs,
            reports_prompt: request.prompt_logprobs,
            reasoning_tokens: 0,
            prefill_ms: 0.0,
            decode_ms: 0.0,
        };
        sequence.replay(backend, &request.resume)?;
        Ok(sequence)
    }

    /// All tokens known so far: the prompt's and the answer's.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Which computed prompts it may use and creates.
    pub(super) fn scope(&self) -> CacheScope {
        CacheScope {
            uid: self.uid,
            adapters: self.adapters.identity(),
        }
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
            Prompt::Text(_) | Prompt::Mixed(_) | Prompt::Infill(_) => 0,
            Prompt::Chat { messages, tools } => {
                let text = chat
                    .stable_prefix(request, messages, tools)
                    .unwrap_or_default();
                let tokens = tokenize(backend, chat, &text, context_of(backend, request));
                // Where a text is cut, its last tokens may differ.
                common_prefix(&self.tokens, tokens.iter().flatten())
            }
        };
    }

    /// Records that another prompt began with the same `tokens` tokens and then diverged,
    /// unless a stable prefix is known.
    pub(super) fn set_stable(&mut self, tokens: u32) {
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
    pub(super) fn add_boundary(&mut self, tokens: usize) {
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
        let is_complete = !self.is_cut && self.matcher.as_mut().is_some_and(Matcher::is_complete);
        if self.stream.is_stopped() || self.generated > 0 && is_complete {
            Some(FinishReason::Stop)
        } else if self.generated > 0
            && (self.generated >= self.max_tokens || self.time.is_over(&self.stream))
        {
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

    /// Positions at which parts of its prompt must end where the probabilities of its tokens
    /// are reported, and a batch has those of at most `outputs` tokens.
    pub(super) fn prompt_stops(&self, outputs: u32) -> Option<Vec<u32>> {
        let part = outputs.max(1);
        let stops = (part..self.prompt_tokens).step_by(part as usize);
        self.reports_prompt.then(|| stops.collect())
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
                samples: Some(position) == samples_at || self.reports_prompt,
            });
        }
    }

    /// Allows drafts of up to `lookup` tokens from earlier text (prompt lookup), and of up to
    /// `model` tokens from a draft model. Tokens that a constraint forces need no draft.
    pub(super) fn allow_drafts(&mut self, lookup: u32, model: u32) {
        if self.matcher.is_none() {
            self.lookup = Lookup::new(lookup as usize);
            self.model_drafts.most = model;
        }
    }

    /// Adds drafts of the next tokens to a batch, which verifies them; returns how many.
    /// The last part is the last known token.
    pub(super) fn draft(&mut self, parts: &mut Vec<Part>) -> usize {
        self.model_drafts.is_last = false;
        let draft = self.lookup.draft(&self.tokens);
        let parts_of = draft_parts(draft, &self.tokens, self.draft_room(), self.seq);
        let before = parts.len();
        parts.extend(parts_of);
        parts.len() - before
    }

    /// The most tokens that a draft model may propose now.
    pub(super) fn draft_model_max(&mut self) -> usize {
        if self.model_drafts.most == 0 || self.model_drafts.backoff.waits() {
            return 0;
        }
        self.draft_room().min(self.model_drafts.most as usize)
    }

    /// Adds what a draft model proposes to a batch; returns how many tokens.
    pub(super) fn add_draft(&mut self, draft: &[Token], parts: &mut Vec<Part>) -> usize {
        self.model_drafts.is_last = true;
        let before = parts.len();
        parts.extend(draft_parts(
            draft,
            &self.tokens,
            self.draft_room(),
            self.seq,
        ));
        parts.len() - before
    }

    /// How many tokens may be drafted: the batch yields one token more than the accepted drafts.
    fn draft_room(&self) -> usize {
        let left = self.max_tokens.saturating_sub(self.generated);
        left.saturating_sub(1) as usize
    }

    /// Records how many drafted tokens were accepted.
    pub(super) fn record_draft(&mut self, drafted: usize, accepted: usize) {
        if self.model_drafts.is_last {
            self.model_drafts.backoff.record(drafted, accepted);
        } else {
            self.lookup.record(drafted, accepted);
        }
    }

    /// Records time that was spent on the prompt besides its decoding.
    pub(super) fn add_prefill_ms(&mut self, ms: f64) {
        self.prefill_ms += ms;
    }

    /// Records that `work` was decoded in a tick of `ms` milliseconds.
    /// The first of its tokens is part number `part` of the batch.
    pub(super) fn decoded(
        &mut self,
        backend: &(impl Decoder + Tokenizer),
        (work, part): (Work, usize),
        ms: f64,
        out: &mut Vec<Event>,
    ) {
        match work {
            Work::Prefill { to, .. } => {
                self.prefill_ms += ms;
                out.push(Event::Prefill {
                    id: self.id,
                    done: to.min(self.prompt_tokens),
                    logprobs: self.logprobs_of_prompt(backend, work, part),
                });
            }
            Work::Decode { .. } => self.decode_ms += ms,
        }
    }
}

/// Drafted tokens after `tokens` as parts of a batch, at most `most`. A picture or sound cannot be
/// drafted.
fn draft_parts<'a>(
    draft: &'a [Token],
    tokens: &[Token],
    most: usize,
    seq: u32,
) -> impl Iterator<Item = Part> + use<'a> {
    let texts = draft.iter().take_while(|token| **token >= 0);
    let placed = (as_u32(tokens.len())..).zip(texts).take(most);
    placed.map(move |(position, token)| Part {
        token: *token,
        position,
        seq,
        samples: true,
    })
}
