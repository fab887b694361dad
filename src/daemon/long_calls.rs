//! Calls that take long, as jobs: they go on when their caller does not wait, show how far they
//! are, and can be cancelled.

use std::convert::Infallible;
use std::fs::File;
use std::time::Duration;

use hearth_proto::{Failure, ModelRef, Use, check_name};
use serde_json::json;
use tokio::sync::watch;

use super::Daemon;
use crate::caller::{Caller, Permission};
use crate::dispatch::Dispatcher;
use crate::engines::stopping;
use crate::jobs::{Operation, Progress};
use crate::models::Copied;
use crate::tuning::Tuning;

impl Daemon {
    /// Loads a model as a job; returns the job's number.
    ///
    /// # Errors
    /// `ModelNotFound`; `QuotaExceeded` as [`crate::jobs::Jobs::start`]; those of loading are
    /// the job's.
    pub async fn start_load(&self, caller: &Caller, model: &ModelRef) -> Result<u64, Failure> {
        let name = self.store.find(model).await?.name;
        // What was wanted or in memory before stays so if this job is cancelled.
        let pool = self.pool.status();
        let is_ours = pool.get(&name).is_none() && !pool.wanted.contains(&name);
        let (pool, by, named) = (self.pool.clone(), caller.clone(), name.clone());
        let dispatcher = is_ours.then(|| self.dispatcher.clone());
        let work = |progress: Progress| async move {
            let mut cancel = CancelLoad {
                dispatcher,
                model: named,
            };
            let model = ModelRef::named(&cancel.model);
            let report = |share| progress.report(share);
            let loaded = tokio::select! {
                loaded = pool.load(&by, &model) => loaded,
                never = pool.follow_load(&cancel.model, report) => match never {},
            };
            cancel.dispatcher = None;
            loaded.map(|()| json!({"model": cancel.model}).to_string())
        };
        self.jobs.start(caller, Operation::LoadModel, &name, work)
    }

    /// Imports a model file as a job; returns the job's number.
    ///
    /// # Errors
    /// `Busy` while the daemon stops; `InvalidArgs` for the name; `AccessDenied`;
    /// `QuotaExceeded` as [`crate::jobs::Jobs::start`]; the others of [`Self::import_model`] are
    /// the job's.
    pub fn start_import(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
        file: File,
    ) -> Result<u64, Failure> {
        if self.dispatcher.status().draining {
            return Err(stopping());
        }
        // What everyone sees of the job has its name.
        check_name(name)?;
        self.store.check_admin(caller, permission)?;
        let (store, by, named) = (self.store.clone(), caller.clone(), name.to_owned());
        let work = |progress: Progress| async move {
            let watch = || store.import_progress(&named);
            tokio::select! {
                // The import begins before its progress is looked for.
                biased;
                imported = store.import(&by, permission, &named, file) => imported?,
                never = follow_import(watch, &progress) => match never {},
            }
            Ok(json!({"model": named}).to_string())
        };
        self.jobs.start(caller, Operation::ImportModel, name, work)
    }

    /// Measures a model as a job, see [`crate::tuning::Tuner::tune`]; returns the job's number.
    /// `encode` turns the measurement into the job's result.
    ///
    /// # Errors
    /// `ModelNotFound`; `QuotaExceeded` as [`crate::jobs::Jobs::start`]; those of measuring are
    /// the job's.
    pub async fn start_measurement(
        &self,
        caller: &Caller,
        model: &ModelRef,
        wait: Duration,
        encode: fn(&Tuning) -> String,
    ) -> Result<u64, Failure> {
        let name = self.pool.name_for(model, Use::Completion).await?;
        let (tuner, by, model) = (self.tuner.clone(), caller.clone(), ModelRef::named(&name));
        let work = |progress: Progress| async move {
            let mut running = tuner.subscribe();
            let follow = async {
                while running.changed().await.is_ok() {
                    if let Some(running) = &*running.borrow_and_update() {
                        progress.report(f64::from(running.done) / f64::from(running.total.max(1)));
                    }
                }
                std::future::pending::<Infallible>().await
            };
            let measured = tokio::select! {
                measured = tuner.tune(&by, &model, wait) => measured,
                never = follow => match never {},
            };
            measured.map(|measured| encode(&measured))
        };
        self.jobs
            .start(caller, Operation::MeasureModel, &name, work)
    }
}

/// Reports how much of a file was copied. The check that follows has no progress.
async fn follow_import(
    watch: impl Fn() -> Option<watch::Receiver<Copied>>,
    progress: &Progress,
) -> Infallible {
    if let Some(mut copied) = watch() {
        while copied.changed().await.is_ok() {
            let copied = *copied.borrow_and_update();
            if let Some(share) = share(copied.done, copied.total) {
                progress.report(share);
            }
        }
    }
    std::future::pending().await
}

/// The share of bytes that are done; `None` for an empty file.
#[expect(clippy::cast_precision_loss, reason = "a share is shown in percent")]
fn share(done: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| done as f64 / total as f64)
}

/// Stops a load when it is dropped before the model is ready.
struct CancelLoad {
    dispatcher: Option<Dispatcher>,
    model: String,
}

impl Drop for CancelLoad {
    fn drop(&mut self) {
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.cancel_load(&self.model);
        }
    }
}
