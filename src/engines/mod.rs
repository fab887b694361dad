//! The engine pool: owns the engine processes, one for each model in memory, and decides
//! which models these are.
//!
//! All of them share one memory budget and the board's limits. What engines report comes
//! out of one channel as [`PoolEvent`]s; the pool knows nothing of queues and callers.

mod adapters;
mod admission;
mod draft;
mod event;
mod follow;
mod load;
mod parts;
mod pressure;
mod process;
mod projector;
mod residency;
mod resident;
mod session;
mod slot;
mod status;
mod supervisor;
mod uses;

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::holds::Keep;
use hearth_proto::{Command, Event, Failure, FailureKind, ModelRef, Priority, Use};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::board::BoardMonitor;
use crate::caller::Caller;
use crate::changes::publish;
use crate::clock::Clock;
use crate::config::ConfigReader;
use crate::models::ModelStore;
pub use event::{Death, PoolEvent};
pub(crate) use parts::PartId;
pub use process::{EngineProcess, Launcher};
pub(crate) use residency::ReadyModel;
use residency::Residency;
pub(crate) use slot::{FileId, Slot};
pub use status::{PoolStatus, ResidentModel};
pub use uses::Inhibitor;

/// The supervisor sends a heartbeat at least this often while an engine runs.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Seconds after which a caller may try again that was refused because the daemon stops.
pub(crate) const RETRY_S: u32 = 5;
/// The class of those who wait for a model without a request in the queue.
const WAITS: Priority = Priority::Normal;

/// Handle on the pool; clones share everything.
#[derive(Clone, Debug)]
pub struct EnginePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    config: ConfigReader,
    board: BoardMonitor,
    store: ModelStore,
    launcher: Launcher,
    residency: Mutex<Residency>,
    status: watch::Sender<PoolStatus>,
    events: mpsc::UnboundedSender<PoolEvent>,
    /// Wakes the supervisors when the wanted models or the work have changed.
    changed: watch::Sender<()>,
}

impl EnginePool {
    /// A pool without an engine, and the events that it will report.
    pub fn new(
        clock: Clock,
        config: ConfigReader,
        board: BoardMonitor,
        store: ModelStore,
        launcher: Launcher,
    ) -> (Self, mpsc::UnboundedReceiver<PoolEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let pool = Self {
            shared: Arc::new(Shared {
                clock,
                config,
                board,
                store,
                launcher,
                residency: Mutex::default(),
                status: watch::Sender::default(),
                events,
                changed: watch::Sender::default(),
            }),
        };
        (pool, receiver)
    }

    /// Runs an engine for each model that is wanted; returns when the pool has stopped.
    pub async fn run(&self) {
        supervisor::run(self).await;
        self.change(|residency| residency.fail_waiters(&stopping()));
        self.report(PoolEvent::Stopped);
    }

    /// The state of the pool.
    pub fn status(&self) -> PoolStatus {
        self.shared.residency.lock().status()
    }

    /// The state of the pool and its changes.
    pub fn subscribe(&self) -> watch::Receiver<PoolStatus> {
        self.shared.status.subscribe()
    }

    /// Whether the supervisors advance; the watchdog is notified only while they do.
    pub fn is_advancing(&self) -> bool {
        self.shared.residency.lock().is_advancing(self.now())
    }

    /// Loads a model and waits until it is ready.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Busy`.
    pub async fn load(&self, caller: &Caller, model: &ModelRef) -> Result<(), Failure> {
        let model = self.shared.store.find(model).await?.name;
        self.load_installed(caller, &model).await
    }

    async fn load_installed(&self, caller: &Caller, model: &str) -> Result<(), Failure> {
        let (sender, loaded) = oneshot::channel();
        self.check_running()?;
        log::info!(uid:% = caller.principal, model; "load requested");
        let keep = caller.keep.is_some();
        self.change(|residency| residency.want(model, WAITS, Some(sender), keep));
        loaded.await.map_err(|_| engine_died())??;
        let now = self.now();
        self.change_quietly(|residency| residency.asked_for(now, model));
        Ok(())
    }

    /// Waits until a model for this use is ready and returns its name.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn ready_or_load(
        &self,
        caller: &Caller,
        model: &ModelRef,
        purpose: Use,
    ) -> Result<String, Failure> {
        let name = self.name_for(model, purpose).await?;
        let now = self.now();
        if !self.shared.residency.lock().use_if_ready(now, &name) {
            self.load_installed(caller, &name).await?;
        }
        Ok(name)
    }

    /// The name of the model that a request for this use means: that of a loaded one, else of
    /// an installed one.
    ///
    /// # Errors
    /// `ModelNotFound`.
    pub async fn name_for(&self, model: &ModelRef, purpose: Use) -> Result<String, Failure> {
        match self.loaded(model, purpose) {
            Some(loaded) => Ok(loaded.name),
            None => Ok(self.shared.store.find_for(model, purpose).await?.name),
        }
    }

    /// The loaded model that a request means; without a name the configured default, or
    /// without one the last used model that supports this use.
    pub(crate) fn loaded(&self, model: &ModelRef, purpose: Use) -> Option<ResidentModel> {
        let (model, default) = self.shared.store.resolve(model, purpose);
        let status = self.status();
        if let Some(name) = model.name() {
            return status.get(name).cloned();
        }
        if let Some(name) = default.name() {
            return status.get(name).cloned();
        }
        let supports = |loaded: &ResidentModel| {
            let info = loaded.info.as_ref();
            !loaded.is_ending && info.is_none_or(|info| info.kind.can(purpose))
        };
        status.resident.into_iter().find(supports)
    }

    /// Loads a model in the background.
    pub(crate) fn want(&self, model: &str, class: Priority) {
        self.change(|residency| residency.want(model, class, None, false));
    }

    /// Loads a model, unless the caller's keep-alive is zero: then it is unloaded if nothing
    /// else uses it or keeps it loaded. Returns whether it stays loaded. `is_awaited`: other
    /// callers wait for the loaded model.
    ///
    /// # Errors
    /// `ModelNotFound`, and those of loading.
    pub async fn load_or_release(
        &self,
        caller: &Caller,
        model: &ModelRef,
        is_awaited: impl Fn(&str) -> bool,
    ) -> Result<bool, Failure> {
        let name = self.shared.store.find(model).await?.name;
        let stays = !caller.keep.as_ref().is_some_and(Keep::is_over);
        if stays {
            self.load_installed(caller, &name).await?;
        } else {
            self.check_running()?;
        }
        self.used(&name, caller.keep.as_ref(), is_awaited(&name));
        Ok(stays)
    }

    /// Ends an engine, or all of them, and returns once their memory is free.
    ///
    /// # Errors
    /// `Busy` while the daemon stops.
    pub async fn unload(&self, caller: &Caller, model: Option<&str>) -> Result<(), Failure> {
        self.check_running()?;
        log::info!(uid:% = caller.principal, model = model.unwrap_or("all"); "unload requested");
        let mut changes = self.subscribe();
        let is_meant = |name: &str| model.is_none_or(|model| model == name);
        let engines: Vec<u64> = {
            let resident = self.status().resident.into_iter();
            let meant = resident.filter(|resident| is_meant(&resident.name));
            meant.map(|resident| resident.serial).collect()
        };
        self.change(|residency| match model {
            Some(model) => residency.unload(model),
            None => residency.unload_all(),
        });
        // Requests that wait may have started other engines by then.
        let are_gone = |status: &PoolStatus| {
            let mut resident = status.resident.iter();
            !resident.any(|resident| engines.contains(&resident.serial))
        };
        _ = changes.wait_for(are_gone).await;
        Ok(())
    }

    /// Ends all engines because the board is short of memory.
    pub(crate) fn unload_for_memory(&self) {
        self.change(Residency::unload_all);
    }

    /// Sets which models the configuration keeps in memory.
    pub(crate) fn set_pinned(&self, models: &[String]) {
        let models = models.to_vec();
        self.change(|residency| residency.pinned = models);
    }

    /// Refuses requests to load and unload from now on.
    pub(crate) fn begin_drain(&self) {
        self.change(Residency::begin_drain);
    }

    /// Ends all engines and loads no other model; running requests are to have ended.
    pub(crate) fn stop(&self) {
        self.change(Residency::stop);
    }

    /// Whether an engine processes requests or loads a model.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.residency.lock().is_busy()
    }

    /// The models that take requests now.
    pub(crate) fn ready(&self) -> Vec<ReadyModel> {
        self.shared.residency.lock().ready()
    }

    /// Opens a slot of a model that is ready, for work of this class.
    pub(crate) fn slot(&self, model: &str, class: Priority) -> Option<Slot> {
        let (now, limits) = (self.now(), self.shared.board.limits());
        let mut residency = self.shared.residency.lock();
        let slot = residency.slot(now, model, class, &limits)?;
        self.shared.board.set_activity(residency.activity());
        drop(residency);
        // The division may have an end now.
        self.wake();
        Some(slot)
    }

    /// Clears the engines' prefix caches: the prompts of one user, or all.
    pub(crate) fn forget_prompts(&self, uid: Option<u32>) {
        let residency = self.shared.residency.lock();
        residency.broadcast(&Command::ForgetPrompts { uid });
    }

    fn check_running(&self) -> Result<(), Failure> {
        if self.shared.residency.lock().is_draining() {
            return Err(stopping());
        }
        Ok(())
    }

    /// Changes the state, publishes it, reports what follows from the change, and wakes the
    /// supervisors.
    fn change<T>(&self, change: impl FnOnce(&mut Residency) -> T) -> T {
        let result = self.change_quietly(change);
        self.wake();
        result
    }

    /// The same for a change that no supervisor waits for.
    fn change_quietly<T>(&self, change: impl FnOnce(&mut Residency) -> T) -> T {
        let (result, events, status) = {
            let mut residency = self.shared.residency.lock();
            let result = change(&mut residency);
            self.shared.board.set_activity(residency.activity());
            (result, residency.take_events(), residency.status())
        };
        publish(&self.shared.status, status);
        for event in events {
            self.report(event);
        }
        result
    }

    fn wake(&self) {
        self.shared.changed.send_replace(());
    }

    /// Reports an engine's event; records a loaded model first.
    fn engine_event(&self, model: &str, event: Event) {
        let info = match event {
            Event::Loaded(info) => info,
            Event::Loading { progress } => {
                self.change_quietly(|residency| residency.load_progress(model, progress));
                return;
            }
            event => {
                self.report(PoolEvent::Engine(event));
                return;
            }
        };
        log::info!(
            model = info.description.as_str(), context = info.context_size, ms = info.load_ms, cpu = info.cpu.as_str();
            "model loaded"
        );
        let now = self.now();
        let had_waiters = self.change(|residency| residency.loaded_now(now, model, *info));
        self.report(PoolEvent::Ready {
            model: model.to_owned(),
            had_waiters,
        });
    }

    fn report(&self, event: PoolEvent) {
        // Its receiver runs as long as the pool.
        _ = self.shared.events.send(event);
    }

    /// Records that a model's supervisor advances.
    fn beat(&self, model: &str) {
        let now = self.now();
        self.change_quietly(|residency| residency.beat(now, model));
    }

    /// Whether the model is still to be loaded.
    fn is_wanted(&self, model: &str) -> bool {
        self.shared.residency.lock().is_wanted(model)
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }
}

/// The failure of what an engine did not answer before it ended.
pub(crate) fn engine_died() -> Failure {
    Failure::new(
        FailureKind::EngineCrashed,
        "the engine process ended while it processed this request; it is restarted automatically",
    )
}

/// The failure of requests while the daemon stops.
pub(crate) fn stopping() -> Failure {
    Failure::new(
        FailureKind::Busy,
        "the service is stopping: try again after it has been restarted",
    )
    .retry_after(RETRY_S)
}

/// Whether no process has this id.
fn process_is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}
