//! llama.cpp's chat layer for the engine process of Hearthd.

mod chat_shim;

pub use chat_shim::{
    Abilities, Chat, ChatError, ParsedAnswer, ParsedCall, Parser, RenderRequest, Rendered, Trigger,
};
