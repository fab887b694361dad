//! The requests in the engine: from the queue into a slot, and out of it again.
//! Independent of the socket.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_policy::scheduler::{Batch, MemoryKind, SlotId, Slots, Step};
use hearth_proto::{Event, Failure, GenerateRequest, RequestId, Reuse};

use super::as_u32;
use super::backend::{Backend, Part};
use super::chat::ChatLayer;
use super::constraints::Constraints;
use super::disk_cache::DiskCacheWriter;
use super::pieces::EmbeddingCache;
use super::prefix_cache::PrefixCache;
use super::prompt::{self, TokenizedPrompt};
use super::sequence::Sequence;

/// The most tokens that are drafted at once: llama.cpp keeps the logits of as many tokens
/// of a batch as there are sequences, and even one slot has more sequences than this.
const DRAFT_MAX: u32 = 8;

/// Processes requests, one tick at a time.
#[derive(Debug)]
pub(super) struct Worker<B: Backend> {
    pub(super) backend: B,
    chat: ChatLayer,
    constraints: Constraints,
    /// Requests without a slot.
    waiting: Vec<GenerateRequest>,
    /// Requests in slots.
    pub(super) sequences: BTreeMap<SlotId, Sequence<B::Sampler>>,
    pub(super) slots: Slots,
    pub(super) cache: PrefixCache,
    /// Of pictures and sounds.
    pub(super) embeddings: EmbeddingCache,
    /// The most tokens that are drafted at once: from earlier text, and by a draft model.
    draft_max: (u32, u32),
    /// The plan of the current tick.
    pub(super) batch: Batch,
    /// Its tokens, and the drafted ones.
    pub(super) parts: Vec<Part>,
    /// Its steps while they are applied.
    pub(super) steps: Vec<Step>,
    pub(super) events: Vec<Event>,
}

impl<B: Backend> Worker<B> {
    pub(super) fn new(
        backend: B,
        chat: ChatLayer,
        disk: Option<DiskCacheWriter>,
        lookup_tokens: u32,
    ) -> Self {
        let info = backend.info();
        let width = info.slots.max(1) as usize;
        let kind = backend.memory();
        let running = backend.sequences().running as usize;
        Self {
            slots: Slots::new(running, width, backend.batch_max()),
            cache: PrefixCache::new(&backend, info.kv_tokens, disk),
            // Wrong drafts have to be removed again.
            draft_max: if kind.can_roll_back() {
                (lookup_tokens.min(DRAFT_MAX), DRAFT_MAX)
            } else {
                (0, 0)
            },
            chat,
            constraints: Constraints::default(),
            embeddings: EmbeddingCache::default(),
            waiting: Vec::new(),
            sequences: BTreeMap::new(),
            batch: Batch::default(),
            parts: Vec::new(),
            steps: Vec::new(),
            events: Vec::new(),
            backend,
        }
    }

    /// Enqueues a request; work on it begins with one of the next ticks.
    pub(super) fn submit(&mut self, request: GenerateRequest) {
        self.waiting.push(request);
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sequences.is_empty()
    }

    /// Drops a request without an event; returns whether it was present.
    pub(super) fn cancel(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|request| request.id != id);
        let slot = self.sequences.iter().find(|(_, s)| s.id == id);
        if let Some(slot) = slot.map(|(slot, _)| *slot) {
            self.end(slot, true);
            return true;
        }
        self.waiting.len() < before
    }

    /// The prompt of a request, which is not computed.
    pub(super) fn render(&self, request: &GenerateRequest) -> Event {
        let id = request.id;
        let kind = self.backend.info().kind;
        let rendered = kind
            .check(request.prompt.wanted())
            .and_then(|()| prompt::render(&self.backend, &self.chat, request));
        match rendered {
            Ok((text, tokens)) => Event::Rendered { id, text, tokens },
            Err(failure) => Event::Failed { id, failure },
        }
    }

    /// Drops this user's finished sequences, or all, and the entries of deleted files.
    pub(super) fn forget(&mut self, uid: Option<u32>) {
        self.cache.forget(&mut self.backend, uid);
        self.embeddings.forget(uid);
    }

    /// Releases memory that is only kept for later; where nothing runs, all of it, after
    /// stable prefixes are written to disk.
    pub(super) fn trim_unused(&mut self) {
        let is_idle = self.is_idle();
        if is_idle {
            self.write_all();
        }
        self.cache.trim(&mut self.backend);
        self.embeddings.forget(None);
        self.constraints = Constraints::default();
        self.backend.shrink(is_idle);
        self.cache.set_tokens_max(self.backend.info().kv_tokens);
    }

    /// Whether [`Self::write_next`] has something to do.
    pub(super) fn has_to_write(&mut self) -> bool {
        self.cache.has_to_write()
    }

    /// Starts writing one stable prefix to disk; for when there is nothing else to do.
    pub(super) fn write_next(&mut self) {
        let bytes = self.backend.info().kv_token_bytes;
        self.cache.write_next(&mut self.backend, bytes);
    }

    /// Writes all stable prefixes to disk, and waits until they are written.
    pub(super) fn write_all(&mut self) {
        let bytes = self.backend.info().kv_token_bytes;
        self.cache.write_all(&mut self.backend, bytes);
    }

    /// The events since the last call.
    pub(super) fn events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Gives the first waiting request a slot, if there is one.
    pub(super) fn begin_next(&mut self, now: Duration) {
        if self.slots.free() == 0 {
            return;
        }
        let next = (0..self.waiting.len()).min_by_key(|n| self.waiting[*n].priority);
        let Some(next) = next.filter(|n| self.may_begin(self.waiting[*n].reuse)) else {
            return;
        };
        let request = self.waiting.remove(next);
        let id = request.id;
        let mut sequence = match self.sequence(&request) {
            Ok(sequence) => sequence,
            Err(failure) => return self.events.push(Event::Failed { id, failure }),
        };
        if let Some(reason) = sequence.ended() {
            sequence.start(0, false, &mut self.events);
            sequence.finish(reason, &mut self.events);
            return;
        }
        self.prepare(&mut sequence, &request);
        let known = as_u32(sequence.tokens().len());
        let slot = self.slots.take(now, request.priority, known, 0);
        // There is a free slot, so there is a free sequence number: see `new`.
        if let (Some(slot), Some(seq)) = (slot, self.cache.take_seq()) {
            sequence.seq = seq;
            self.slots.set_adapters(slot, sequence.adapters.identity());
            self.slots.stop_at(slot, sequence.pieces.stops());
            self.sequences.insert(slot, sequence);
            if request.reuse == Reuse::Reproducible {
                self.slots.set_alone(slot);
                self.cache.clear(&mut self.backend);
            }
        }
    }

    fn sequence(&mut self, request: &GenerateRequest) -> Result<Sequence<B::Sampler>, Failure> {
        let prompt = TokenizedPrompt::new(&self.backend, &self.chat, request)?;
        let chat = prompt.chat.as_ref();
        let matcher = self
            .constraints
            .matcher(&self.backend, &self.chat, request, chat)?;
        Sequence::begin(&self.backend, prompt, request, matcher)
    }

    /// Sets what a new sequence may draft, and which of its prefixes are worth keeping.
    fn prepare(&mut self, sequence: &mut Sequence<B::Sampler>, request: &GenerateRequest) {
        if request.reuse != Reuse::Reproducible {
            let (lookup, model) = self.draft_max;
            sequence.allow_drafts(lookup, model);
        }
        let kind = self.backend.memory();
        if kind == MemoryKind::Recurrent {
            // It costs a separate batch: with a sliding window the sequence itself
            // usually suffices.
            sequence.add_boundary(sequence.answer_at());
        }
        let is_kept = self.cache.has_disk() || kind.needs_checkpoints();
        if is_kept && request.reuse == Reuse::Allowed {
            sequence.find_stable(&self.backend, &self.chat, request);
        }
        let known = as_u32(sequence.tokens().len());
        let least = self.cache.min_tokens();
        if request.prewarm && known < least {
            log::warn!(
                "the prewarmed prompt has {known} tokens and stays in memory only: prompts of \
                 {least} tokens or more are written to disk (`cache.min_tokens`)"
            );
        }
    }

    /// A reproducible request uses the KV cache alone.
    fn may_begin(&self, reuse: Reuse) -> bool {
        let mut running = self.sequences.values();
        match reuse {
            Reuse::Reproducible => self.sequences.is_empty(),
            _ => running.all(|sequence| sequence.reuse != Reuse::Reproducible),
        }
    }

    pub(super) fn fail(&mut self, slot: SlotId, failure: Failure) {
        if let Some(sequence) = self.sequences.get(&slot) {
            let id = sequence.id;
            self.events.push(Event::Failed { id, failure });
        }
        self.end(slot, false);
    }

    /// Frees a slot; what it computed is kept for the next prompt where it is usable.
    pub(super) fn end(&mut self, slot: SlotId, keep: bool) {
        let done = self.slots.done(slot) as usize;
        self.slots.release(slot);
        let Some(sequence) = self.sequences.remove(&slot) else {
            return;
        };
        let (seq, backend) = (sequence.seq, &mut self.backend);
        // Drafted tokens may follow it.
        backend.remove(seq, as_u32(done));
        let keep = keep && sequence.reuse == Reuse::Allowed;
        if !keep || !backend.is_usable(seq, as_u32(done)) {
            return self.cache.free(backend, seq);
        }
        let tokens = sequence.tokens().get(..done).unwrap_or_default().to_vec();
        let owner = (seq, sequence.scope());
        self.cache
            .insert(backend, owner, tokens, &sequence.lengths());
    }
}
