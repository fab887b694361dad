//! llama.cpp's chat layer: renders templates and parses answers.
//!
//! Needs no model. The C++ is in `libhearth-chat.so`, built from the llama.cpp that
//! `llama-cpp-sys-2` bundles; only the engine process loads it.

mod chat;
mod ffi;

pub use chat::{
    Abilities, Chat, ChatError, ParsedAnswer, ParsedCall, Parser, RenderRequest, Rendered, Trigger,
};
