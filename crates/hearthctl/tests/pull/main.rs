//! `hearthctl pull` against misbehaving servers.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the clock, they do not judge by it"
)]

mod breaks;
#[path = "../../../../tests/common/executables.rs"]
mod executables;
mod forms;
mod harness;
mod models;
#[path = "../../../../tests/common/not_checked.rs"]
mod not_checked;
mod projectors;
mod refusals;
mod servers;
mod tls;
