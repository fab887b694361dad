//! Decisions: what the board allows, and who goes next. Pure: the time is an argument;
//! nothing here opens a file, starts a thread or reads a clock.

#![warn(missing_docs)]

pub mod governor;
pub mod scheduler;
#[cfg(feature = "simulator")]
pub mod simulator;
