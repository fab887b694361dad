//! What the governor allows and the engine obeys, from one tick to the next.

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Permille};

/// The engine's current limits. It applies a change between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Compute threads; the engine clamps to its pool's size.
    pub threads: u32,
    /// Those of them that decode single tokens, where more bring nothing: the memory is
    /// the bound there. 0: all.
    #[serde(default)]
    pub decode_threads: u32,
    /// Tokens of one prefill chunk; between two chunks others may decode.
    pub prefill_chunk: u32,
    /// Share of time spent computing; the rest is slept.
    pub duty: Permille,
    /// Requests worked on at once; 0: as many as there are slots.
    pub slots: u32,
    /// Where to compute; empty: wherever the kernel puts it.
    pub cpus: CpuSet,
    /// No work at all until lifted.
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
