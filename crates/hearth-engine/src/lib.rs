//! The engine process. One model, several sequences, a blocking tick loop; it may abort
//! or be killed at any moment, which costs only time.
//!
//! [`run`] is the process behind `hearth-engine`: it speaks the framed protocol on the
//! socket inherited as standard input. The loop knows only the [`Backend`] trait, which
//! [`llama`] implements; `hearth-engine-fake` has another one for tests of the loop. `unsafe` is
//! confined to [`llama`] and to [`chat_shim`], the interface to llama.cpp's chat layer.

mod adapters;
mod affinity;
mod answer;
pub mod backend;
mod chat;
pub mod chat_shim;
mod clock;
mod confidence;
mod constraints;
mod disk_cache;
mod infill;
mod link;
pub mod llama;
mod main_loop;
mod media_step;
pub mod offline;
mod pace;
mod pieces;
mod prefix_cache;
mod process;
mod prompt;
mod reuse;
mod sequence;
mod speculation;
mod text_stream;
mod texts;
mod tick;
pub mod tools;
mod worker;

pub use backend::Backend;
pub use chat::try_template;
pub use process::{exit_code, run};

/// A number of tokens, sequences or parts; none of them reaches the limit.
fn as_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
