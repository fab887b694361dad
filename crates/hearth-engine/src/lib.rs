//! The engine process. One model, several sequences, a blocking tick loop; it may abort
//! or be killed at any moment, which costs only time.
//!
//! [`run`] is the process behind `hearth-engine`: it speaks the framed protocol on the
//! socket inherited as standard input. The loop knows only the [`Backend`] trait;
//! [`llama`] is the real one, [`fake`] is for tests of the loop. `unsafe` is confined to
//! [`llama`] and to [`chat_shim`], the interface to llama.cpp's chat layer.

mod affinity;
mod answer;
pub mod backend;
mod chat;
pub mod chat_shim;
mod clock;
mod confidence;
mod constraints;
pub mod fake;
mod keeper;
mod link;
pub mod llama;
pub mod offline;
mod pace;
mod process;
mod reuse;
mod sequence;
mod text_stream;
mod tick;
pub mod tools;
mod worker;

pub use backend::Backend;
pub use chat::try_template;
pub use process::{exit_code, run};
