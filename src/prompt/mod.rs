//! Floor 2: streamed text, and what an answer must look like. Pure.

mod stream;

pub use hearth_constraint as constraint;
pub use stream::TextStream;
