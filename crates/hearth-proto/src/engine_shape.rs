//! How the engine divides its memory among requests.

use crate::units::Bytes;

/// The dimensions of the engine's context that no configuration changes. The engine creates
/// its context with them, and the memory estimate computes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineShape {
    /// Tokens of one micro-batch. llama.cpp checks the abort flag and the thread count
    /// between two of them.
    pub micro_batch: u32,
    /// Most requests processed at once: more only take memory for logits.
    pub slots_max: u32,
    /// Requests in the engine for each running one.
    pub sequences_per_slot: u32,
    /// Most finished sequences in the prefix cache.
    pub kept_max: u32,
    /// Most tokens of finished sequences in the prefix cache: each slows every decode a
    /// little, which has to skip it.
    pub kept_tokens_max: u32,
    /// Least finished sequences of a model with states (Mamba, LFM2).
    pub kept_states_min: u32,
    /// Memory for the states of more than these.
    pub kept_states: Bytes,
}

impl EngineShape {
    /// The shape of this version's engine.
    pub const DEFAULT: Self = Self {
        // A cancel takes at most about 10 ms on a PC.
        micro_batch: 128,
        slots_max: 16,
        // As many of each class as can run, so that a preempted one keeps what it computed
        // (ARCHITECTURE.md).
        sequences_per_slot: 3,
        // Few enough to scan for every prompt, and enough for one prompt prefix per room in a
        // home automation setup.
        kept_max: 12,
        kept_tokens_max: 32_768,
        // A system prompt, a prompt and its answer.
        kept_states_min: 3,
        kept_states: Bytes::mib(64),
    };
}

impl Default for EngineShape {
    fn default() -> Self {
        Self::DEFAULT
    }
}
