//! OpenAI's Responses API, as far as it goes without keeping anything.
//!
//! Shapes: platform.openai.com's API reference for responses, and the types of the
//! official Python package. A request is said as a chat and decoded as one; an answer is
//! taken apart by the same reader.

mod input;
mod request;
mod stream;

pub use request::{ResponsesRequest, decode_responses};
pub use stream::ResponsesStream;
