//! OpenAI's Responses API, without the parts that need stored state.
//!
//! Shapes: platform.openai.com's API reference for responses, and the types of the official
//! Python package. A request becomes the chat that it means; an answer is
//! parsed by the same reader.

mod input;
mod objects;
mod request;
mod stream;
mod tools;

pub use request::{ResponsesRequest, decode_responses};
pub use stream::ResponsesStream;
