//! The limits that the governor sets and the engine applies at each tick.

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Permille};

/// The engine's current limits. It applies a change between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Compute threads; the engine clamps them to its pool's size.
    pub threads: u32,
    /// Threads used to decode single tokens: this is bound by memory, so that more bring
    /// nothing. 0: all.
    #[serde(default)]
    pub decode_threads: u32,
    /// Tokens of one prefill chunk; other sequences may decode between two chunks.
    pub prefill_chunk: u32,
    /// Share of time spent computing; the engine sleeps for the rest.
    pub duty: Permille,
    /// Requests processed at once; 0: as many as there are slots.
    pub slots: u32,
    /// The CPUs to compute on; empty: no restriction.
    pub cpus: CpuSet,
    /// Whether all work is suspended.
    pub paused: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: 1,
            decode_threads: 0,
            prefill_chunk: 128,
            duty: Permille::FULL,
            slots: 0,
            cpus: CpuSet::default(),
            paused: false,
        }
    }
}
