//! Ollama's JSON over HTTP: requests into [`Submission`](hearth_proto::Submission)s,
//! answers into responses and lines.
//!
//! Shapes: `docs/api.md` of Ollama, and what its Python client reads. What OpenAI's API has
//! in the same form (tools, the parts of an answer) is reused from there.

mod create;
mod embed;
mod form;
mod generate;
mod keep_alive;
mod logprobs;
mod messages;
mod models;
mod options;
mod request;
mod response;
mod show;
mod stream;

pub use create::{Create, decode_create};
pub use embed::{Embed, decode_copy, decode_embed, decode_model};
pub use generate::decode_generate;
pub use models::{name_of, process, tag, tagged};
pub use request::{Request, decode_chat};
pub use response::{Form, timestamp};
pub use show::{Description, Show, decode_show, show};
pub use stream::OllamaStream;
