//! The real daemon, engine and client on a private bus with the shipped policy.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the clock, they do not judge by it"
)]

mod dbus;
mod faults;
mod harness;
mod http;
