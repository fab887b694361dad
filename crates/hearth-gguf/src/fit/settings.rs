//! The settings that a model is loaded with.

use hearth_proto::KvType;
use hearth_proto::units::Bytes;

use super::estimate::{cell_bytes, is_recurrent, state_bytes, usable_kv_type};
use super::repack::Repack;
use crate::Header;

/// Tokens of one micro-batch. llama.cpp checks the abort flag and the thread count
/// between two of them: with 128 a cancel takes at most about 10 ms on a PC.
pub const MICRO_BATCH: u32 = 128;
/// Most requests processed at once: more only take memory for logits.
pub const SLOTS_MAX: u32 = 16;
/// A context is not reduced below this when memory is short: a conversation with tools
/// does not fit into less.
pub const CONTEXT_SMALL: u32 = 2048;
/// The smallest context that is created, in tokens.
const CONTEXT_MIN: u32 = 8;
/// Most tokens of finished prompts in the prefix cache: each slows every decode a
/// little, which has to skip it.
const KEPT_TOKENS_MAX: u32 = 32_768;
/// Most finished sequences in the prefix cache: few enough to scan for every prompt, and
/// enough for one prompt prefix per room in a home automation setup.
const KEPT_MAX: u32 = 12;
/// Requests in the engine for each running one: as many of each class as can run, so that
/// a preempted one keeps its place (ARCHITECTURE.md).
const CLASSES: u32 = 3;
/// A model with states (Mamba, LFM2) keeps at least those of a system prompt, a prompt and
/// its answer, and more as long as all of them take no more than `KEPT_STATES`.
const KEPT_STATES_MIN: u32 = 3;
const KEPT_STATES: Bytes = Bytes::mib(64);

/// The settings of a model that affect its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tokens of one conversation.
    pub context: u32,
    /// Tokens of finished prompts in addition to it.
    pub kept: u32,
    /// Type of the key cache.
    pub kv_type: KvType,
    /// Tokens of a micro-batch.
    pub batch: u32,
    /// Requests worked on at once.
    pub slots: u32,
    /// Compute threads.
    pub threads: u32,
    /// The matrices that the kernels repack.
    pub repack: Repack,
    /// Whether answers may be constrained (schemas, tool calls): the tables for this are
    /// created at the first use.
    pub constraints: bool,
    /// Whether texts are embedded: needs a second context, created at the first use.
    pub embeddings: bool,
}

impl Settings {
    /// Minimal settings for a model that is loaded with this context.
    pub fn plain(context: u32) -> Self {
        Self {
            context,
            kept: 0,
            kv_type: KvType::F16,
            batch: MICRO_BATCH,
            slots: 1,
            threads: 1,
            repack: Repack::None,
            constraints: false,
            embeddings: false,
        }
    }

    /// Cells of the cache for keys and values; llama.cpp rounds up to 256.
    pub(super) fn cells(&self) -> u64 {
        (u64::from(self.context) + u64::from(self.kept)).next_multiple_of(256)
    }

    /// Sequences that the cache distinguishes.
    pub(super) fn sequences(&self, header: &Header) -> u64 {
        let (running, kept) = places(header, self.slots.clamp(1, SLOTS_MAX), self.kept);
        u64::from(running + kept)
    }
}

/// What is requested of a model before its header is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Context in tokens; 0: the model's own, at most `context_max`.
    pub context: u32,
    /// Upper bound for `context = 0`.
    pub context_max: u32,
    /// Type of the key cache.
    pub kv_type: KvType,
    /// Memory for finished prompts.
    pub kept: Bytes,
    /// Requests worked on at once.
    pub slots: u32,
}

impl Default for Wanted {
    /// As the daemon is configured by default.
    fn default() -> Self {
        Self {
            context: 0,
            context_max: 4096,
            kv_type: KvType::F16,
            kept: Bytes::mib(64),
            slots: 2,
        }
    }
}

impl Wanted {
    /// The settings for a model on this CPU.
    pub fn settings(&self, header: &Header, threads: u32) -> Settings {
        let kv_type = usable_kv_type(header, self.kv_type);
        Settings {
            context: context(header, self.context, self.context_max),
            kept: kept_tokens(header, self.kept, kv_type),
            kv_type: self.kv_type,
            batch: MICRO_BATCH,
            slots: self.slots,
            threads,
            repack: Repack::of_this_cpu(),
            // Tool calls and schemas are common; embeddings are rare, and fail on their
            // own if there is no memory for them.
            constraints: true,
            embeddings: false,
        }
    }
}

/// How many sequences the memory has to distinguish: those in slots, and those kept. A
/// state takes the same memory for any sequence; where nothing is to be kept, only running
/// sequences have one.
pub fn places(header: &Header, slots: u32, kept_tokens: u32) -> (u32, u32) {
    if !is_recurrent(header) {
        return (slots * CLASSES, KEPT_MAX);
    }
    if kept_tokens == 0 {
        return (slots, 0);
    }
    let states = KEPT_STATES.0 / state_bytes(header).max(1);
    let states = u32::try_from(states).unwrap_or(u32::MAX);
    // As many as fit: more slots never result in fewer.
    let running = (slots * CLASSES).min(states.max(slots));
    (running, states.clamp(KEPT_STATES_MIN, KEPT_MAX))
}

/// The context that is wanted: `configured`, or where that is 0 the model's own, at
/// most `context_max`.
pub fn context(header: &Header, configured: u32, context_max: u32) -> u32 {
    let own = match header.context_train {
        0 => context_max,
        own => own.min(context_max),
    };
    if configured == 0 { own } else { configured }.max(CONTEXT_MIN)
}

/// Tokens of finished prompts that fit into this much memory. Where no block has keys and
/// values, they take none.
pub(super) fn kept_tokens(header: &Header, memory: Bytes, kv_type: KvType) -> u32 {
    if memory.0 == 0 {
        return 0;
    }
    let tokens = memory.0 / cell_bytes(header, kv_type).max(1);
    u32::try_from(tokens)
        .unwrap_or(u32::MAX)
        .min(KEPT_TOKENS_MAX)
}
