//! What tests of the daemon in one process need: an engine that follows a script and speaks
//! the real framing, and files that stand for models and for a board.
//!
//! The daemon starts the engine through a function; its time is tokio's, so that a test can
//! pause and advance it.

#![warn(missing_docs)]

mod answers;
mod board;
mod engine;
mod folder;
mod script;
mod session;
mod work;

pub use answers::{Answers, Step, echo};
pub use board::Board;
pub use engine::{FakeEngine, Received, Start};
pub use folder::Folder;
pub use script::{LoadFault, Script};
