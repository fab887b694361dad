//! Wire formats: decode to requests, encode from events and answers. No I/O.

#![warn(missing_docs)]

mod chunks;
mod date;
mod fields;
pub mod ollama;
pub mod openai;

pub use chunks::Chunks;
