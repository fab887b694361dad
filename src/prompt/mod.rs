//! Floor 2: chat templates, streamed text, what an answer is made of, and what it must
//! look like. Pure.

mod answer;
pub mod constraint;
mod date;
mod prefix;
mod stream;
mod template;

pub use answer::{AnswerParser, Part, Reading, ToolCall, is_marker, opens_reasoning};
pub use date::civil;
pub use prefix::stable_prefix;
pub use stream::TextStream;
pub use template::{CHATML, Template};
