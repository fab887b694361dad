//! The engine's clock: it measures its own work, so it reads the time itself.

use std::time::Instant;

/// Now.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of the engine that reads it"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since `began`.
pub fn ms_since(began: Instant) -> f64 {
    now().duration_since(began).as_secs_f64() * 1000.0
}
