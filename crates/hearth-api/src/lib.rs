//! Wire formats: decode to requests, encode from events and answers. No I/O.

#![warn(missing_docs)]

pub mod anthropic;
mod chunks;
mod content;
mod date;
mod encode;
pub mod llama_server;
mod lora;
mod media;
pub mod ollama;
pub mod openai;
mod read;
mod sampling;
mod scalars;
mod shape;
mod texts;
mod timings;
mod vectors;

pub use chunks::{Chunks, Progress};
pub use timings::Reports;
pub use vectors::shorten;
