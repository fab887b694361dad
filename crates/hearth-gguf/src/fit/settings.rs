//! The settings that a model is loaded with.

use hearth_proto::units::Bytes;
use hearth_proto::{EngineShape, KvType};

use super::repack::Repack;
use super::sizes::{cell_bytes, is_recurrent, state_bytes, usable_kv_type};
use crate::Header;

/// A context is not reduced below this when memory is short: a conversation with tools
/// does not fit into less.
pub const CONTEXT_SMALL: u32 = 2048;
/// The smallest context that is created, in tokens.
const CONTEXT_MIN: u32 = 8;

/// The settings of a model that affect its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tokens of one conversation.
    pub context: u32,
    /// Tokens of finished prompts in addition to it.
    pub kept: u32,
    /// Type of the key cache.
    pub kv_type: KvType,
    /// The dimensions of the engine that loads it.
    pub engine: &'static EngineShape,
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
            engine: &EngineShape::DEFAULT,
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
        let slots = self.slots.clamp(1, self.engine.slots_max);
        u64::from(sequences(header, self.engine, slots, self.kept).all())
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
    /// The dimensions of the engine that is to load it.
    pub engine: &'static EngineShape,
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
            engine: &EngineShape::DEFAULT,
        }
    }
}

impl Wanted {
    /// The settings for a model on this CPU.
    pub fn settings(&self, header: &Header, threads: u32) -> Settings {
        let kv_type = usable_kv_type(header, self.kv_type);
        Settings {
            context: context(header, self.context, self.context_max),
            kept: kept_tokens(header, self.engine, self.kept, kv_type),
            kv_type: self.kv_type,
            engine: self.engine,
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

/// How many sequences the memory has to distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Those of requests in the engine.
    pub running: u32,
    /// Finished ones in the prefix cache.
    pub kept: u32,
}

impl Sequences {
    /// Both together.
    pub fn all(self) -> u32 {
        self.running + self.kept
    }
}

/// The sequences of a model that is loaded with so many slots. A state takes the same memory
/// for any sequence; where nothing is to be kept, only running sequences have one.
pub fn sequences(header: &Header, engine: &EngineShape, slots: u32, kept_tokens: u32) -> Sequences {
    let most = slots * engine.sequences_per_slot;
    if !is_recurrent(header) {
        return Sequences {
            running: most,
            kept: engine.kept_max,
        };
    }
    if kept_tokens == 0 {
        return Sequences {
            running: slots,
            kept: 0,
        };
    }
    let states = engine.kept_states.0 / state_bytes(header).max(1);
    let states = u32::try_from(states).unwrap_or(u32::MAX);
    Sequences {
        // As many as fit: more slots never result in fewer.
        running: most.min(states.max(slots)),
        kept: states.clamp(engine.kept_states_min, engine.kept_max),
    }
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
pub(super) fn kept_tokens(
    header: &Header,
    engine: &EngineShape,
    memory: Bytes,
    kv_type: KvType,
) -> u32 {
    if memory.0 == 0 {
        return 0;
    }
    let tokens = memory.0 / cell_bytes(header, kv_type).max(1);
    u32::try_from(tokens)
        .unwrap_or(u32::MAX)
        .min(engine.kept_tokens_max)
}
