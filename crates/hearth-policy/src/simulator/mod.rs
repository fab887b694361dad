//! Simulated boards, which drive the real governor with a virtual clock.
//!
//! A board is a thermal plant (two nodes), what slows its cores by itself (firmware or
//! kernel), a power model and the speed of decoding. Pure: [`simulate`] reads no clock
//! and opens nothing. The figures are those of docs/governor.md; what is
//! assumed says so.

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
