//! The scheduler: which request is next, the contents of the next batch, and which finished
//! sequences are cached. Pure: `now` is an argument.
//!
//! [`Queue`] orders requests in the daemon, before they are sent to the engine. [`Slots`]
//! decides in the engine what the sequences in its slots do in the next tick; [`PrefixIndex`]
//! finds the finished sequences whose keys and values stay in the KV cache for the next prompt,
//! and [`Lookup`] drafts tokens that an answer repeats.

mod backoff;
mod lookup;
mod memory;
mod plan;
mod prefix_index;
mod queue;
mod turns;

pub use backoff::DraftBackoff;
pub use lookup::Lookup;
pub use memory::MemoryKind;
pub use plan::{Batch, SlotId, Slots, Step, Work};
pub use prefix_index::{Hit, Lengths, PrefixIndex, StablePrefix};
pub use queue::{AGEING, Caller, Queue};
