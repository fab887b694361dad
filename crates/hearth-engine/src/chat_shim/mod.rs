//! llama.cpp's chat layer: renders templates and parses answers.
//!
//! Needs no model. The C++ is `libhearth_chat.a`, built by build.rs from the llama.cpp that
//! `llama-cpp-sys-2` bundles.

mod chat;
mod ffi;

pub use chat::{
    Abilities, Chat, ChatError, ParsedAnswer, ParsedCall, Parser, RenderRequest, Rendered, Trigger,
};
