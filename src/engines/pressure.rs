//! What the pool releases when memory becomes short: draft models first, then the prompt caches of
//! idle models, then idle models, then the caches of those that work. In an emergency the dispatcher ends
//! everything.

use std::time::Duration;

use hearth_policy::governor::MemoryState;
use hearth_policy::residency::{Room, make_room};
use hearth_proto::Command;
use hearth_proto::units::Bytes;

use super::EnginePool;
use super::residency::Residency;

/// How long to wait for the effect of what was released before more is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What has been released since memory became short.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    state: MemoryState,
    /// When the next part is released, if what was released until then did not help.
    due: Option<Duration>,
    /// Only draft models were released so far.
    keeps_caches: bool,
}

impl Pressure {
    /// When to call [`Self::observe`] although the state has not changed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Releases the next part if the memory state has become worse, or what was released did
    /// not help.
    pub(super) fn observe(&mut self, pool: &EnginePool, state: MemoryState) {
        let now = pool.now();
        let is_worse = state > self.state;
        self.state = state;
        if state == MemoryState::Normal || state == MemoryState::Emergency {
            self.due = None;
        } else if is_worse {
            let had_drafts = pool.change(Residency::release_drafts);
            self.keeps_caches = had_drafts && state == MemoryState::Moderate;
            if !self.keeps_caches {
                self.shrink_idle(pool);
            }
            self.due = Some(now + PATIENCE);
        } else if self.keeps_caches && self.due.is_some_and(|due| due <= now) {
            self.keeps_caches = false;
            self.shrink_idle(pool);
            self.due = Some(now + PATIENCE);
        } else if self.due.is_some_and(|due| due <= now) {
            if end_idle(pool, now) {
                self.due = Some(now + PATIENCE);
            } else {
                self.shrink_all(pool);
            }
        }
    }

    /// Releases the caches of idle models; where that cannot be enough, those of all.
    fn shrink_idle(&mut self, pool: &EnginePool) {
        let shrink = Command::Shrink;
        let has_idle = pool.shared.residency.lock().send_where(false, &shrink);
        if !has_idle || self.state > MemoryState::Moderate {
            self.shrink_all(pool);
        }
    }

    /// The last step until the state becomes worse.
    fn shrink_all(&mut self, pool: &EnginePool) {
        self.due = None;
        pool.shared.residency.lock().broadcast(&Command::Shrink);
    }
}

/// Ends the idle model that is the first to go; returns whether there is one. The last model
/// stays: it costs little while it is idle, and much to load again.
fn end_idle(pool: &EnginePool, now: Duration) -> bool {
    let candidates = pool.shared.residency.lock().candidates(now);
    if candidates.len() < 2 {
        return false;
    }
    let Room::End(names) = make_room(&candidates, Bytes(1)) else {
        return false;
    };
    for name in &names {
        log::warn!(model = name.as_str(); "unloading an idle model: memory is short");
        pool.change(|residency| residency.retire(name));
    }
    !names.is_empty()
}
