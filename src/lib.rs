//! Hearthd: a local service for language models on small computers.
//!
//! The daemon: transports ([`dbus`], [`http`]), the [`service`] behind them, model files
//! ([`models`]) and configuration ([`config`]), composed by [`app`]. ARCHITECTURE.md
//! describes the other crates and the path of a request.

#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod dbus;
pub mod http;
pub mod models;
pub mod service;

pub use hearth_cache as cache;
pub use hearth_constraint as constraint;
pub use hearth_gguf as gguf;
pub use hearth_gguf::fit;
pub use hearth_policy::{governor, scheduler, simulator as board};
pub use hearth_proto as protocol;
pub use hearth_proto::units;
pub use hearth_sensors as sensors;
