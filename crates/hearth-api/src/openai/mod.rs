//! OpenAI's JSON, over HTTP and on the bus: requests into
//! [`Submission`](hearth_proto::Submission)s, answers into responses and stream chunks.
//!
//! Shapes: platform.openai.com's API reference for chat completions, completions, responses
//! and transcriptions. Unknown fields, and those that Hearthd does not use, are ignored; the others
//! are checked.

mod bias;
mod completion;
mod embeddings;
mod extras;
mod form;
mod messages;
mod options;
mod request;
mod response;
mod responses;
mod stream;
mod tools;
mod transcription;

pub use completion::{
    CompletionForm, CompletionRequest, CompletionStream, completion_response, decode_completion,
};
pub use embeddings::{EmbeddingsRequest, decode_embeddings};
pub use messages::decode_messages;
pub use options::decode_options;
pub(crate) use request::common;
pub use request::{ChatRequest, decode_chat};
pub use response::{call_id, chat_response};
pub use responses::{ResponsesRequest, ResponsesStream, decode_responses};
pub use stream::ChatStream;
pub use tools::{Tools, decode_tools};
pub use transcription::{
    TranscriptFormat, TranscriptionRequest, decode_transcription, transcript_text,
    transcription_response,
};
