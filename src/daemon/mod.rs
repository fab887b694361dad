//! The daemon's owners, each with its own state, and their combined status.
//!
//! A transport takes a [`Daemon`] and calls the owner that it needs; it has no policy of
//! its own.

mod adapters;
mod long_calls;
mod metadata;
mod models;
mod resident;
mod snapshot;
mod status;

use std::fs::File;
use std::sync::Arc;

use hearth_proto::{Failure, ModelRef, Priority, Use};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::board::{BoardMonitor, BoardStatus};
use crate::caller::{Caller, Permission};
use crate::clock::Clock;
use crate::config::{Config, ConfigWriter};
use crate::dispatch::{Dispatcher, QueueStatus};
use crate::engines::{EnginePool, Launcher, PoolEvent, PoolStatus, stopping};
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::models::ModelStore;
use crate::prompt_cache::PromptCache;
use crate::sessions::Sessions;
use crate::tuning::Tuner;
pub use metadata::Metadata;
pub use models::Props;
pub use resident::{ModelState, ModelStatus};
pub use snapshot::BoardSnapshot;
pub use status::{State, Status};

/// The owners. Clones share everything.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The configuration in force.
    pub config: Arc<ConfigWriter>,
    /// Sensors and governor.
    pub board: BoardMonitor,
    /// Model files.
    pub store: ModelStore,
    /// Engine processes.
    pub pool: EnginePool,
    /// Requests.
    pub dispatcher: Dispatcher,
    /// Requests whose result is stored.
    pub jobs: Jobs,
    /// Conversations that the daemon stores.
    pub sessions: Sessions,
    /// Measurements of this board.
    pub tuner: Tuner,
    /// The prompt cache on disk.
    pub prompts: PromptCache,
    metrics: Arc<Metrics>,
    clock: Clock,
    events: Arc<Mutex<Option<mpsc::UnboundedReceiver<PoolEvent>>>>,
    /// Held while the key-values of a file are read.
    metadata_reads: Arc<tokio::sync::Mutex<()>>,
}

/// The status of all owners, and their changes.
#[derive(Clone, Debug)]
pub struct StatusWatch {
    board: watch::Receiver<BoardStatus>,
    pool: watch::Receiver<PoolStatus>,
    queue: watch::Receiver<QueueStatus>,
}

impl Daemon {
    /// The owners over the configured folders; nothing runs until [`Self::run`].
    pub async fn open(config: Config, launcher: Launcher) -> Self {
        let clock = Clock::start();
        let board = BoardMonitor::open(&config, clock).await;
        let config = ConfigWriter::new(config);
        let metrics = Arc::new(Metrics::default());
        let store = ModelStore::open(config.reader()).await;
        let (pool, events) = EnginePool::new(
            clock,
            config.reader(),
            board.clone(),
            store.clone(),
            launcher,
        );
        let dispatcher = Dispatcher::new(
            clock,
            config.reader(),
            board.clone(),
            store.clone(),
            pool.clone(),
            Arc::clone(&metrics),
        );
        let tuner = Tuner::open(
            config.reader(),
            board.clone(),
            store.clone(),
            pool.clone(),
            dispatcher.clone(),
        );
        let daemon = Self {
            jobs: Jobs::new(config.reader(), dispatcher.clone()),
            sessions: Sessions::new(config.reader(), dispatcher.clone()),
            tuner: tuner.await,
            prompts: PromptCache::new(config.reader(), store.clone(), pool.clone()),
            config: Arc::new(config),
            board,
            store,
            pool,
            dispatcher,
            metrics,
            clock,
            events: Arc::new(Mutex::new(Some(events))),
            metadata_reads: Arc::default(),
        };
        daemon.preload();
        daemon
    }

    /// Runs the owners' tasks; returns when the daemon has drained. The second call returns
    /// at once.
    pub async fn run(&self) {
        let Some(events) = self.events.lock().take() else {
            return;
        };
        let work = async { tokio::join!(self.pool.run(), self.dispatcher.run(events)) };
        tokio::select! {
            _ = work => {}
            () = self.board.run() => {}
            () = self.tuner.run() => {}
            () = self.dispatcher.prewarm_after_loads() => {}
            () = self.store.compute_digests(|| self.until_idle()) => {}
        }
    }

    /// Waits until no model is being loaded and no request is there.
    async fn until_idle(&self) {
        let (mut pool, mut queue) = (self.pool.subscribe(), self.dispatcher.subscribe());
        loop {
            let is_loading = {
                let pool = pool.borrow_and_update();
                !pool.wanted.is_empty() || pool.resident.iter().any(|m| m.info.is_none())
            };
            let queued = {
                let queue = queue.borrow_and_update();
                queue.queued + queue.running
            };
            if !is_loading && queued == 0 {
                return;
            }
            let changed = tokio::select! {
                changed = pool.changed() => changed,
                changed = queue.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Loads the default model and the pinned ones if `model.preload` is set.
    fn preload(&self) {
        let config = self.config.get();
        self.pool.set_pinned(&config.model.pinned);
        if !config.model.preload {
            return;
        }
        let pinned = config.model.pinned.iter();
        let models = [ModelRef::Default]
            .into_iter()
            .chain(pinned.map(|name| ModelRef::named(name)));
        for model in models {
            match self.store.find_listed(&model, Use::Chat) {
                Ok(model) => self.pool.want(&model.name, Priority::Background),
                Err(failure) => log::warn!("cannot preload a model: {failure}"),
            }
        }
    }

    /// Replaces the configuration; it applies to later requests and loads, and its governor
    /// settings from the next reading on.
    pub fn set_config(&self, config: Config) {
        self.board.set_config(&config.governor);
        self.pool.set_pinned(&config.model.pinned);
        self.config.set(config);
    }

    /// Refuses new work, lets running answers finish for at most the configured time, then
    /// ends the engines.
    pub async fn drain(&self) {
        self.pool.begin_drain();
        self.dispatcher.drain().await;
        self.pool.stop();
    }

    /// Imports a model file.
    ///
    /// # Errors
    /// `Busy` while the daemon stops, and those of [`ModelStore::import`].
    pub async fn import_model(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
        file: File,
    ) -> Result<(), Failure> {
        if self.dispatcher.status().draining {
            return Err(stopping());
        }
        self.store.import(caller, permission, name, file).await
    }

    /// Removes an imported model that is not loaded.
    ///
    /// # Errors
    /// As [`ModelStore::remove`].
    pub async fn remove_model(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
    ) -> Result<(), Failure> {
        let is_loaded = |name: &str| {
            let pool = self.pool.status();
            let mut drafts = pool.resident.iter().filter_map(|m| m.draft.as_deref());
            pool.get(name).is_some() || drafts.any(|draft| draft == name)
        };
        self.store.remove(caller, permission, name, is_loaded).await
    }

    /// The status of all owners now.
    pub fn status(&self) -> Status {
        let (pool, queue) = (self.pool.status(), self.dispatcher.status());
        Status::of(&self.board.status(), &pool, &queue)
    }

    /// The status of all owners, and their changes.
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch {
            board: self.board.subscribe(),
            pool: self.pool.subscribe(),
            queue: self.dispatcher.subscribe(),
        }
    }

    /// The metrics in OpenMetrics text form, with the board as it is now.
    pub async fn metrics(&self) -> String {
        let board = self.board_snapshot().await;
        self.metrics.encode(&self.status(), board)
    }

    /// The time since the daemon started.
    pub fn uptime(&self) -> std::time::Duration {
        self.clock.now()
    }
}

impl StatusWatch {
    /// Waits for a change and returns the status after it; `None` when the owners are gone.
    pub async fn changed(&mut self) -> Option<Status> {
        let changed = tokio::select! {
            changed = self.board.changed() => changed,
            changed = self.pool.changed() => changed,
            changed = self.queue.changed() => changed,
        };
        changed.ok()?;
        Some(self.current())
    }

    /// The status now.
    pub fn current(&mut self) -> Status {
        let pool = self.pool.borrow_and_update().clone();
        let queue = *self.queue.borrow_and_update();
        Status::of(&self.board.borrow_and_update(), &pool, &queue)
    }
}
