//! Hearthd: a local service for language models on small computers.
//!
//! The daemon: transports ([`dbus`], [`http`]), the owners behind them ([`daemon`]) and the
//! configuration ([`config`]), composed by [`app`]. ARCHITECTURE.md describes the owners,
//! the other crates and the path of a request.

#![forbid(unsafe_code)]

pub mod app;
pub mod board;
pub mod caller;
mod changes;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dbus;
pub mod dispatch;
pub mod engines;
pub mod http;
pub mod jobs;
pub mod metrics;
pub mod models;
pub mod prompt_cache;
pub mod sessions;
mod state_file;
pub mod tuning;
