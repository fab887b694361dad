//! The daemon's two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The monotonic clock of all owners: time since the daemon started. Code without I/O takes
/// the time as an argument. The clock is tokio's, so that a test can pause and advance it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since its start.
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// Seconds since 1970; 0 if the clock is before it.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
