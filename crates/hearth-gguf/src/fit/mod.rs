//! The memory estimate: how much memory a model takes, computed before it is loaded, and
//! whether that much is available. Pure: a header and settings in, bytes out; the dimensions
//! of the engine are among the settings ([`EngineShape`](hearth_proto::EngineShape)).
//!
//! The formulas follow llama.cpp's loader and graphs (llama-cpp-sys-2 0.1.161); the
//! constants were measured. `crates/hearth-engine/tests/engine/memory.rs` compares them
//! with the engine's resident size for models of the llama family, within 10 %. Not
//! checked that way, since no such model can be generated here:
//!
//! - experts: their activations are counted as those of all experts used at once;
//! - sliding windows (Gemma): llama.cpp is configured to keep the whole context for every
//!   block, so keys and values take as much as without windows; Gemma 3n's and 4's blocks
//!   of other head widths are counted with the widths of the others;
//! - compressed keys (`DeepSeek`) are counted as uncompressed, which is too much;
//! - states (Mamba, RWKV, LFM2): their sizes follow llama.cpp's formulas, their
//!   activations are a guess from the inner width.

mod admit;
mod budget;
mod estimate;
mod repack;
mod settings;
mod sizes;

pub use admit::{Fitted, NoFit, WouldFit, fit};
pub use budget::{Budget, budget};
pub use estimate::{Estimate, estimate, memory_max};
pub use repack::Repack;
pub use settings::{CONTEXT_SMALL, Sequences, Settings, Wanted, context, sequences};
pub use sizes::{cell_bytes, usable_kv_type};
