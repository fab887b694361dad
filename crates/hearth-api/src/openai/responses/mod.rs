//! OpenAI's Responses API, without the parts that need stored state.
//!
//! Shapes: platform.openai.com's API reference for responses, and the types of the official
//! Python package. A request is translated to a chat and decoded as one; an answer is
//! parsed by the same reader.

mod input;
mod request;
mod stream;

pub use request::{ResponsesRequest, decode_responses};
pub use stream::ResponsesStream;
