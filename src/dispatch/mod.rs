//! The dispatcher: owns all requests, from their acceptance to their last event.
//!
//! Requests that generate reach an engine through `submit` only, embeddings, scores and tokens
//! through `call_engine`. The dispatcher asks the pool for slots, routes the engines' events to the
//! requests by id, and decides what happens to a request whose engine died.

mod accept;
mod candidates;
mod embed;
mod entry;
mod limits;
mod media;
mod order;
mod parts;
mod prewarm;
mod render;
mod requests;
mod rerank;
mod resume;
mod run;
mod slots;
mod stream;
mod texts;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Command, Event, Failure, ModelRef, Priority, RequestId};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::board::BoardMonitor;
use crate::caller::Caller;
use crate::changes;
use crate::clock::Clock;
use crate::config::ConfigReader;
use crate::engines::{EnginePool, engine_died, stopping};
use crate::metrics::Metrics;
use crate::models::ModelStore;
pub(crate) use accept::check_bytes;
pub use candidates::Candidates;
pub use embed::{Embeddings, Overlong};
pub(crate) use entry::Completed;
use entry::PendingCommand;
pub use prewarm::Prewarm;
pub use render::Rendering;
use requests::Requests;
pub use rerank::{Ranking, Rerank};
pub use slots::Processing;
pub use stream::Stream;
pub use tokens::{Tokenized, Tokenizing};

/// What the dispatcher publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueStatus {
    /// Queued requests.
    pub queued: u32,
    /// Requests that engines process.
    pub running: u32,
    /// Decode speed of the last finished answer.
    pub tokens_per_second: f64,
    /// Whether new requests are refused because the daemon stops.
    pub draining: bool,
}

/// Handle on the dispatcher; clones share everything.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    config: ConfigReader,
    board: BoardMonitor,
    store: ModelStore,
    pool: EnginePool,
    metrics: Arc<Metrics>,
    requests: Mutex<Requests>,
    status: watch::Sender<QueueStatus>,
}

impl Dispatcher {
    /// A dispatcher without requests.
    pub fn new(
        clock: Clock,
        config: ConfigReader,
        board: BoardMonitor,
        store: ModelStore,
        pool: EnginePool,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                config,
                board,
                store,
                pool,
                metrics,
                requests: Mutex::new(Requests::of_run(fastrand::u32(..))),
                status: watch::Sender::default(),
            }),
        }
    }

    /// The state of the queue.
    pub fn status(&self) -> QueueStatus {
        self.shared.requests.lock().status()
    }

    /// The state of the queue and its changes.
    pub fn subscribe(&self) -> watch::Receiver<QueueStatus> {
        self.shared.status.subscribe()
    }

    /// Tokens generated since the daemon started, those of running answers included.
    pub fn tokens_generated(&self) -> u64 {
        self.shared.requests.lock().tokens_generated
    }

    /// Whether no request is queued or running.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.requests.lock().is_empty()
    }

    fn is_awaited(&self, model: &str) -> bool {
        self.shared.requests.lock().is_awaited(model)
    }

    /// An id for work that is no request, from the same numbers.
    pub(crate) fn new_id(&self) -> RequestId {
        self.shared.requests.lock().next_id()
    }

    /// The last id assigned.
    pub(crate) fn last_id(&self) -> RequestId {
        self.shared.requests.lock().last_id()
    }

    /// Loads a model, unless the caller's keep-alive is zero: then it is unloaded if nothing
    /// else uses it or keeps it loaded. Returns whether it stays loaded.
    ///
    /// # Errors
    /// `ModelNotFound`, and those of loading.
    pub async fn load_or_release(
        &self,
        caller: &Caller,
        model: &ModelRef,
    ) -> Result<bool, Failure> {
        let pool = &self.shared.pool;
        pool.load_or_release(caller, model, |name| self.is_awaited(name))
            .await
    }

    /// Stops loading a model, unless others wait for it or something keeps it in memory.
    pub fn cancel_load(&self, model: &str) {
        let is_awaited = self.is_awaited(model);
        self.shared.pool.cancel_load(model, is_awaited);
    }

    /// Ends a use of a model that was not a request: from now on the caller's keep-alive
    /// counts.
    pub fn used(&self, caller: &Caller, model: &str) {
        let keep = caller.keep.as_ref();
        self.shared.pool.used(model, keep, self.is_awaited(model));
    }

    /// Refuses new work, fails what is queued, and lets running answers finish for at most
    /// the configured time.
    pub async fn drain(&self) {
        let limit = Duration::from_secs(u64::from(self.shared.config.get().queue.drain_s));
        let mut status = self.subscribe();
        self.begin_drain();
        let finished = status.wait_for(|s| s.running == 0);
        if tokio::time::timeout(limit, finished).await.is_err() {
            let seconds = limit.as_secs();
            log::warn!("running answers did not finish within {seconds} s");
        }
    }

    fn begin_drain(&self) {
        let mut requests = self.shared.requests.lock();
        requests.draining = true;
        requests.cancel_prewarms(None);
        requests.fail_queued(|_| true, &stopping());
        self.publish(&requests);
    }

    /// Ends a request, queued or running.
    pub(crate) fn cancel(&self, id: RequestId, failure: Failure) {
        let mut requests = self.shared.requests.lock();
        let kind = failure.kind;
        if let Some(waiting) = requests.cancel(id, failure) {
            self.shared
                .metrics
                .ended_in_queue(&waiting.caller.origin, kind);
        }
        self.pump(&mut requests);
    }

    /// Changes the class of a queued request; returns whether it was queued.
    pub(crate) fn set_priority(&self, id: RequestId, priority: Priority) -> bool {
        let mut requests = self.shared.requests.lock();
        let was_queued = requests.set_priority(id, priority);
        if was_queued {
            self.pump(&mut requests);
        }
        was_queued
    }

    /// Sends the engine of a model a command that is answered by one event. `class`: how it
    /// ranks beside the work of other engines. `sets_keep_alive`: the caller sets the
    /// keep-alive itself.
    async fn call_engine(
        &self,
        model: &str,
        class: Priority,
        command: impl FnOnce(RequestId) -> Command,
        sets_keep_alive: bool,
    ) -> Result<Event, Failure> {
        let (sender, answered) = oneshot::channel();
        {
            let mut requests = self.shared.requests.lock();
            let slot = self
                .shared
                .pool
                .slot(model, class)
                .ok_or_else(engine_died)?;
            let id = requests.next_id();
            slot.send(command(id))?;
            let pending = PendingCommand {
                model: model.to_owned(),
                sender,
                sets_keep_alive,
                _slot: slot,
            };
            requests.pending_commands.insert(id, pending);
        }
        answered.await.map_err(|_| engine_died())?
    }

    fn publish(&self, requests: &Requests) {
        changes::publish(&self.shared.status, requests.status());
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }
}
