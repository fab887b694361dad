//! Ollama's JSON over HTTP: requests into [`Submission`](hearth_proto::Submission)s,
//! answers into responses and lines.
//!
//! Shapes: `docs/api.md` of Ollama, and what its Python client reads. What OpenAI's API has
//! in the same form (tools, the parts of an answer) is reused from there.

mod embed;
mod generate;
mod keep_alive;
mod messages;
mod models;
mod options;
mod request;
mod response;
mod stream;

pub use embed::{Embed, decode_copy, decode_embed, decode_model};
pub use generate::decode_generate;
pub use models::{name_of, process, show, tag, tagged};
pub use request::{Request, decode_chat};
pub use response::{Form, timestamp};
pub use stream::OllamaStream;
