//! Hearthd: language models on the small computer in the house.
//!
//! The rooms lie on floors, and `use` points down only (a test sees to it):
//!
//! ```text
//! 6 bins, app                everything
//! 5 dbus, http               service (never each other)
//! 4 service, models          sensors, governor, config, protocol
//! 2 sensors, cache, gguf, fit      governor's Reading
//! 1 governor, scheduler, config    floor 0 only; no files, no threads, no clock
//!   board                          governor: simulated boards for it
//! 0 units, protocol, logging
//! ```
//!
//! One request: a front decodes it into a `Submission`; the service admits it and
//! queues it by priority; a frame carries it to the engine process; the engine
//! ticks; its events come back by id and the front writes them out.

pub mod app;
pub mod config;
pub mod dbus;
pub mod http;
pub mod logging;
pub mod models;
pub mod service;

pub use hearth_cache as cache;
pub use hearth_constraint as constraint;
#[cfg(feature = "engine")]
pub use hearth_engine as engine;
pub use hearth_gguf as gguf;
pub use hearth_gguf::fit;
pub use hearth_policy::{governor, scheduler, simulator as board};
pub use hearth_proto as protocol;
pub use hearth_proto::units;
pub use hearth_sensors as sensors;
