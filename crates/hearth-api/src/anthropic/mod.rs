//! Anthropic's JSON over HTTP: requests into [`Submission`](hearth_proto::Submission)s, answers
//! into messages and events.
//!
//! Shapes: the reference of its Messages API, and the types of its official Python package.
//! What its API lacks (samplers, adapters, classes) is read by OpenAI's decoder, under the names
//! that it has there.

mod blocks;
mod messages;
mod models;
mod objects;
mod request;
mod rich;
mod stream;
mod tools;

pub use models::{Page, model_object, model_page};
pub use request::{MessagesRequest, decode_messages};
pub use stream::MessagesStream;
