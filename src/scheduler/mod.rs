//! Floor 1: who goes next. Pure: `now` is an argument.

mod queue;

pub use queue::Queue;
