//! The binding to llama.cpp. `unsafe` is allowed here and in `chat_shim`.
//!
//! llama-cpp-2 holds backend, model and vocabulary; context, batch, samplers and thread
//! pool are our own over llama-cpp-sys-2, because the safe crate offers neither live
//! thread changes nor an abort callback nor all samplers (docs/notes/llama-cpp.md).
#![expect(
    unsafe_code,
    reason = "the one home of unsafe; each block says why it is sound"
)]

mod adapters;
mod available;
mod chain;
mod check;
mod collector;
mod context;
mod describe;
mod draft;
mod draw;
mod embedder;
mod exit;
mod file;
mod formats;
mod imatrix;
mod kernels;
mod loader;
mod log;
mod media;
mod media_batch;
mod media_data;
mod media_ffi;
mod memory;
mod model;
mod pool;
mod quantize;
mod raw;
mod recommended;
mod rope;
mod sampler;
#[cfg(test)]
mod testing;
mod trim_unused;
mod variants;

pub(super) use available::available;
pub use check::check_tensors;
pub use collector::Collector;
pub use exit::leave;
pub(super) use file::header;
pub use imatrix::{Imatrix, Sums};
pub use kernels::{Runtime, RuntimeError};
pub use loader::LlamaLoader;
pub use media::check_projector;
pub(super) use media::no_projector;
pub use model::LlamaModelBackend;
pub use quantize::{BUFFER_BYTES, Outcome, Quantize, quantize};
pub use sampler::Sampler;

/// Returns freed memory to the kernel; otherwise glibc keeps it for reuse.
fn trim() {
    // SAFETY: takes a number and touches nothing but the allocator's own free memory,
    // under its locks (malloc_trim(3)).
    unsafe { nix::libc::malloc_trim(0) };
}
