//! The real daemon, engine and client on a private bus with the shipped policy.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the clock, they do not judge by it"
)]
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "Debug quotes paths as TOML does"
)]

#[macro_use]
#[path = "../common/proof.rs"]
mod proof;

mod browsers;
mod bus;
mod bus_clients;
mod busctl;
mod client;
mod clients;
mod compatibility;
mod connections;
mod ctl_json;
mod dbus;
mod embed;
#[path = "../common/executables.rs"]
mod executables;
mod faults;
#[expect(
    dead_code,
    reason = "the tests in one process check the effects in detail"
)]
#[path = "../common/field_cases.rs"]
mod field_cases;
mod harness;
mod heat;
mod home_assistant;
mod hostile;
mod http;
mod jobs;
mod keep;
mod keep_alive;
mod limits;
mod llama_server;
mod mcp;
mod memory;
#[path = "../common/not_checked.rs"]
mod not_checked;
mod npm_clients;
mod ollama;
mod ollama_models;
mod openapi;
mod order;
mod pictures;
mod polkit;
mod prewarm;
mod pull;
mod readme;
#[path = "../common/real_models.rs"]
mod real_models;
mod requests;
mod rust_client;
mod sessions;
mod several;
mod sounds;
mod start;
mod storms;
mod study;
mod token;
mod tool_loop;
mod tune;
#[path = "../common/wav.rs"]
mod wav;
