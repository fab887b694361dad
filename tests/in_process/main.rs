//! The daemon's owners and transports in one process, with an engine that follows a script.
//!
//! HTTP and D-Bus go through sockets as in a real daemon; the bus is a peer-to-peer
//! connection, whose caller never leaves. Where the clock is paused, it advances as soon as
//! every task waits for it.

#[macro_use]
#[path = "../common/proof.rs"]
mod proof;

mod anthropic;
mod board;
mod bus;
mod chats;
mod compatibility;
mod dispatcher;
mod drafts;
mod embeddings;
#[path = "../common/field_cases.rs"]
mod field_cases;
mod harness;
mod http;
mod infill;
mod jobs;
mod limits;
mod llama_server;
mod long_calls;
mod lora;
mod malformed;
mod manager;
mod ollama;
mod ollama_create;
mod ollama_models;
mod open_webui;
mod openai;
mod pool;
mod prewarm;
mod rerank;
mod responses;
mod sessions;
mod several;
mod store;
mod transcriptions;
mod tune;
mod vision;
#[path = "../common/wav.rs"]
mod wav;
