//! llama-server's own endpoints: completions, filling in text, reranking, tokens.
//!
//! Shapes: `tools/server/README.md` of llama.cpp; reranking is Jina's and Cohere's, too.

mod completion;
mod completion_response;
mod completion_stream;
mod embedding;
mod infill;
mod prompts;
mod rerank;
mod settings;
mod tokens;

pub use completion::{CompletionForm, CompletionRequest, decode_completion};
pub use completion_response::{CompletionContext, completion_response};
pub use completion_stream::CompletionStream;
pub use embedding::{EmbeddingRequest, decode_embedding, embedding_response};
pub use infill::decode_infill;
pub(crate) use prompts::inputs;
pub use rerank::{RerankRequest, decode_rerank, rerank_response};
pub use settings::default_settings;
pub use tokens::{
    DetokenizeRequest, TokenizeRequest, decode_detokenize, decode_tokenize, tokenize_response,
};
