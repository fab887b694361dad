//! Hearthd: language models on the small computer in the house.
//!
//! The rooms lie on floors, and `use` points down only (a test sees to it):
//!
//! ```text
//! 4 bin, app
//! 3 dbus, http               service (never each other)
//! 2 service, models
//! 1 config
//! 0 the crates beside this package
//! ```
//!
//! One request: a front decodes it into a `Submission`; the service admits it and
//! queues it by priority; a frame carries it to the engine process; the engine
//! ticks; its events come back by id and the front writes them out.

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
