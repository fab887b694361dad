//! Floor 1: who goes next, and what the next batch holds. Pure: `now` is an argument.
//!
//! [`Queue`] orders requests in the daemon, in front of the engine. [`Slots`] decides
//! in the engine what the sequences in its slots do in the next tick.

mod plan;
mod queue;

pub use plan::{Batch, SlotId, Slots, Step, Work};
pub use queue::{AGEING, Queue};
