//! The scheduler: which request is next, the contents of the next batch, and which finished
//! sequences are cached. Pure: `now` is an argument.
//!
//! [`Queue`] orders requests in the daemon, before they are sent to the engine. [`Slots`]
//! decides in the engine what the sequences in its slots do in the next tick; [`Kept`]
//! manages the sequences whose keys and values stay in the cache for the next prompt, and
//! [`Lookup`] drafts tokens that an answer repeats.

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
