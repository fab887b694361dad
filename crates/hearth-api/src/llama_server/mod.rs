//! llama-server's own endpoints: reranking and filling in text.
//!
//! Shapes: `tools/server/README.md` of llama.cpp; reranking is Jina's and Cohere's, too.

mod infill;
mod rerank;

pub use infill::{InfillStream, decode_infill, infill_response};
pub use rerank::{RerankRequest, decode_rerank, rerank_response};
