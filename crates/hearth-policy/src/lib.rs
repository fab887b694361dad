//! Policy decisions: what the board allows, which request is next, what a user may still
//! use, and which model stays in memory. Pure: the time is an argument; nothing here opens
//! a file, starts a thread or reads a clock.

#![warn(missing_docs)]

pub mod governor;
pub mod holds;
pub mod quota;
pub mod residency;
pub mod scheduler;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod tuning;
