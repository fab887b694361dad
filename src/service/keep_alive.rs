//! How long a model stays in memory for a client: Ollama's `keep_alive`.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::types::Caller;
use super::{Service, stopping};
use crate::protocol::Failure;

pub use crate::protocol::KeepAlive;
pub use hearth_policy::holds::{Client, Keep};

impl Service {
    /// Ends a use of a model that was not a request: from now on the caller's keep-alive
    /// counts.
    pub fn used(&self, caller: &Caller, model: &str) {
        let mut inner = self.lock();
        inner.used(self.now(), model, caller.keep.as_ref());
        self.publish(&inner);
        drop(inner);
        self.shared.changed.notify_one();
    }

    /// Loads a model (empty: the default one), unless the caller's keep-alive is zero: then
    /// it is unloaded if nothing else uses it or keeps it loaded. Returns whether it was to
    /// stay.
    ///
    /// # Errors
    /// `ModelNotFound`, and those of loading.
    pub async fn load_or_let_go(&self, caller: &Caller, model: &str) -> Result<bool, Failure> {
        let default = self.config().model.default.clone();
        let model = self.shared.store.resolve(model, &default)?.name;
        let stays = !caller.keep.as_ref().is_some_and(Keep::is_over);
        if stays {
            self.load_model(caller, &model).await?;
        } else if self.lock().draining {
            return Err(stopping());
        }
        self.used(caller, &model);
        Ok(stays)
    }

    /// How long the loaded model stays if nothing uses it; `None`: for ever.
    pub fn stays(&self) -> Option<Duration> {
        let limit = Duration::from_secs(u64::from(self.config().engine.idle_unload_s));
        let until = self.lock().stays_until(limit)?;
        Some(until.saturating_sub(self.now()))
    }

    /// The time since the service started.
    pub fn uptime(&self) -> Duration {
        self.now()
    }
}

/// Whether no process has this id.
pub(super) fn is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}
