//! Offline work on models: quantizing, importance matrices, evaluation, a choice between
//! quantizations, benchmarks, and a study of servers.
//!
//! The library prints nothing and parses no command line: progress goes to a [`Progress`],
//! results are data that serializes to JSON, and plots are SVG texts. What needs llama.cpp
//! runs in `hearth-engine offline`, a child process ([`offline`]).

pub mod advise;
pub mod bench;
mod error;
pub mod evaluate;
pub mod graphs;
pub mod model;
pub mod offline;
mod plot;
pub mod quantize;
pub mod study;

pub use error::{LabError, Result};

/// Receives the progress of work.
pub trait Progress {
    /// A step begins whose length is unknown.
    fn begin(&self, step: &str);
    /// `done` of `total` parts of a step are complete.
    fn steps(&self, step: &str, done: u64, total: u64);
}

/// Progress that nobody sees.
impl Progress for () {
    fn begin(&self, _step: &str) {}
    fn steps(&self, _step: &str, _done: u64, _total: u64) {}
}
