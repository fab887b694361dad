//! Ollama's JSON, which its clients speak over HTTP: requests into
//! [`Submission`](hearth_proto::Submission)s, answers into responses and lines.
//!
//! Shapes: `docs/api.md` of Ollama, and what its Python client reads. What is the same in
//! OpenAI's API (tools, the split of an answer) is taken from there.

mod keep_alive;
mod messages;
mod models;
mod options;
mod request;
mod response;
mod stream;

pub use models::{details, name_of, process, show, tag, tagged};
pub use request::{Embed, Request, decode_chat, decode_embed, decode_generate, decode_name};
pub use response::{Form, timestamp};
pub use stream::OllamaStream;
