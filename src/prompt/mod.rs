//! Floor 2: chat templates, streamed text, tool calls. Pure.

mod date;
mod stream;
mod template;
pub mod tools;

pub use stream::TextStream;
pub use template::Template;
