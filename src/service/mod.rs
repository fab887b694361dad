//! Floor 4: admission, queue, jobs, streams and the supervisor of the engine.
//!
//! [`Service`] is a cheap handle on one shared state. Methods that only touch
//! that state return at once; nothing here blocks the runtime. The fronts
//! translate, the service decides.

mod types;

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::protocol::{Failure, RequestId};

pub use types::{
    Answer, Caller, Fields, JobState, JobView, ModelEntry, State, Status, Stream, StreamEvent,
    Submission,
};

/// Handle on the service; clones share everything.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {}

/// Cancels a request when dropped, unless disarmed.
#[derive(Debug)]
pub(crate) struct CancelGuard {
    service: Service,
    id: RequestId,
}

impl CancelGuard {
    fn disarm(self) {
        todo!()
    }
}

impl Service {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        todo!()
    }

    /// The service's state, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        todo!()
    }

    /// Admits a request, or refuses it at once with the reason.
    ///
    /// # Errors
    /// `Busy` while draining, `QueueFull`, `ModelNotFound`, `InvalidArgs`,
    /// `ContextTooLong` where the text alone is over the configured bound.
    pub fn submit(&self, caller: &Caller, submission: Submission) -> Result<Stream, Failure> {
        todo!()
    }

    /// Admits a request as a job that outlives its sender. `encode` turns the
    /// answer into the job's result (the OpenAI response JSON).
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_job(
        &self,
        caller: &Caller,
        submission: Submission,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<u64, Failure> {
        todo!()
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<JobView> {
        todo!()
    }

    /// One job's state and every change; closed when the job is forgotten.
    pub fn watch_job(&self, id: u64) -> Option<watch::Receiver<JobView>> {
        todo!()
    }

    /// Waits for a job's result.
    ///
    /// # Errors
    /// `AccessDenied` for anyone but its owner and root, `InvalidArgs` for an
    /// unknown job, else the failure that ended it.
    pub async fn job_result(&self, caller: &Caller, id: u64) -> Result<String, Failure> {
        todo!()
    }

    /// Cancels a job; nothing happens to one that is over.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above.
    pub fn cancel_job(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        todo!()
    }

    /// Counts the tokens of a text with the loaded (or default) model.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn count_tokens(&self, caller: &Caller, text: String) -> Result<u32, Failure> {
        todo!()
    }

    /// The installed models, by name.
    pub fn models(&self) -> Vec<ModelEntry> {
        todo!()
    }

    /// Loads a model (empty name: the default one) and waits until it is ready.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Busy`.
    pub async fn load_model(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        todo!()
    }

    /// Ends the engine; a running request fails with `Cancelled`.
    ///
    /// # Errors
    /// `Busy` while draining.
    pub async fn unload_model(&self, caller: &Caller) -> Result<(), Failure> {
        todo!()
    }

    /// Copies a file into the store, has the engine check it, gives it its name.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` for the name, `Io` (disk full: nothing
    /// stays), `ModelInvalid`.
    pub async fn import_model(
        &self,
        caller: &Caller,
        name: &str,
        file: File,
    ) -> Result<(), Failure> {
        todo!()
    }

    /// Removes an imported model.
    ///
    /// # Errors
    /// `AccessDenied`, `ModelNotFound`, `Busy` while it is loaded.
    pub async fn remove_model(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        todo!()
    }

    /// The metrics in OpenMetrics text form.
    pub fn metrics(&self) -> String {
        todo!()
    }
}
