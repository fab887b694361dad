//! The scheduler: who goes next, what the next batch holds, and which finished sequences are
//! kept. Pure: `now` is an argument.
//!
//! [`Queue`] orders requests in the daemon, in front of the engine. [`Slots`] decides
//! in the engine what the sequences in its slots do in the next tick; [`Kept`] knows
//! the sequences whose keys and values stay in the cache for the next prompt, and
//! [`Lookup`] guesses what an answer repeats.

mod kept;
mod lookup;
mod memory;
mod plan;
mod queue;

pub use kept::{Hit, Kept, Lengths, Stable};
pub use lookup::Lookup;
pub use memory::MemoryKind;
pub use plan::{Batch, SlotId, Slots, Step, Work};
pub use queue::{AGEING, Caller, Queue};
