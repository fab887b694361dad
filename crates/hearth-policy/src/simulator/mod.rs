//! Simulated boards, which drive the real governor with a virtual clock.
//!
//! A board consists of a thermal plant (two nodes), the throttling by its firmware or
//! kernel, a power model and the decode speed. Pure: [`simulate`] reads no clock and opens
//! no file. The figures are those of docs/governor.md; assumed ones are marked as such.

mod boards;
mod event;
mod plant;
mod simulate;
mod trace;
mod tree;

pub use boards::{BOARDS, Board, ambient_celsius, board};
pub use event::{Event, ParseEventError, What};
pub use plant::Plant;
pub use simulate::{Control, Run, simulate};
pub use trace::{Row, Summary, Trace};

#[cfg(test)]
mod tests;
