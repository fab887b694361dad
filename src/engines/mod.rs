//! The engine pool: owns the engine processes and decides which model is in memory.
//!
//! One engine runs at a time; the interface takes the model's name wherever several could
//! differ. What engines report comes out of one channel as [`PoolEvent`]s; the pool knows
//! nothing of queues and callers.

mod event;
mod load;
mod process;
mod residency;
mod session;
mod slot;
mod status;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::holds::Keep;
use hearth_proto::{Command, Event, Failure, FailureKind, ModelRef};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::board::BoardMonitor;
use crate::caller::Caller;
use crate::changes::publish;
use crate::clock::Clock;
use crate::config::ConfigReader;
use crate::models::ModelStore;
pub use event::{Death, PoolEvent};
pub use process::{EngineProcess, Launcher};
pub(crate) use residency::ReadyModel;
use residency::{Consequence, Residency};
pub(crate) use slot::{FileId, Slot};
pub use status::{PoolStatus, ResidentModel};

/// The supervisor sends a heartbeat at least this often while an engine runs.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Seconds after which a caller may try again that was refused because the daemon stops.
pub(crate) const RETRY_S: u32 = 5;

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
    /// Wakes the supervisor when the wanted model or the work has changed.
    changed: Arc<Notify>,
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
                changed: Arc::default(),
            }),
        };
        (pool, receiver)
    }

    /// Runs an engine whenever a model is wanted; returns when the pool has stopped.
    pub async fn run(&self) {
        supervisor::run(self).await;
        self.change(|pool| pool.fail_waiters(&stopping()));
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

    /// Whether the supervisor advances; the watchdog is notified only while it does.
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
        self.change(|pool| pool.want(model, Some(sender), caller.keep.is_some()));
        loaded.await.map_err(|_| engine_died())?
    }

    /// Waits until a model is ready and returns its name.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn ready_or_load(
        &self,
        caller: &Caller,
        model: &ModelRef,
    ) -> Result<String, Failure> {
        let ready = self.ready().filter(|ready| model.accepts(&ready.name));
        if let Some(ready) = ready {
            return Ok(ready.name);
        }
        let name = self.shared.store.find(model).await?.name;
        self.load_installed(caller, &name).await?;
        Ok(name)
    }

    /// Loads a model in the background.
    pub(crate) fn want(&self, model: &str) {
        self.change(|pool| pool.want(model, None, false));
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
        is_awaited: impl Fn() -> bool,
    ) -> Result<bool, Failure> {
        let name = self.shared.store.find(model).await?.name;
        let stays = !caller.keep.as_ref().is_some_and(Keep::is_over);
        if stays {
            self.load_installed(caller, &name).await?;
        } else {
            self.check_running()?;
        }
        self.used(&name, caller.keep.as_ref(), is_awaited());
        Ok(stays)
    }

    /// Ends the engine and returns once its memory is free.
    ///
    /// # Errors
    /// `Busy` while the daemon stops.
    pub async fn unload(&self, caller: &Caller) -> Result<(), Failure> {
        self.check_running()?;
        log::info!(uid:% = caller.principal; "unload requested");
        let mut status = self.subscribe();
        let pids = |status: &PoolStatus| status.resident.iter().find_map(|m| m.pid);
        let pid = pids(&self.status());
        self.change(Residency::unload);
        // Requests that wait may have started another engine by then.
        if pid.is_some() {
            _ = status.wait_for(|status| pids(status) != pid).await;
        }
        Ok(())
    }

    /// Ends the engine because the board is short of memory.
    pub(crate) fn unload_for_memory(&self) {
        self.change(Residency::unload);
    }

    /// Refuses requests to load and unload from now on.
    pub(crate) fn begin_drain(&self) {
        self.change(Residency::begin_drain);
    }

    /// Ends the engine and loads no other one; running requests are to have ended.
    pub(crate) fn stop(&self) {
        self.change(Residency::stop);
    }

    /// Keeps the loaded model in memory until [`Self::release`], and loads the default one
    /// if there is none; returns the inhibitor's cookie.
    ///
    /// # Errors
    /// `Busy` where this caller has too many inhibitors, else those of loading.
    pub async fn inhibit_unload(&self, caller: &Caller, reason: &str) -> Result<u32, Failure> {
        let owner = caller.origin.to_string();
        let (cookie, is_loaded) = {
            let mut residency = self.shared.residency.lock();
            let cookie = residency.inhibitors.add(&owner);
            (cookie, residency.loaded().is_some())
        };
        let cookie = cookie.ok_or_else(|| {
            Failure::new(
                FailureKind::Busy,
                "this caller has too many inhibitors: release a cookie first",
            )
        })?;
        if !is_loaded && let Err(failure) = self.load(caller, &ModelRef::Default).await {
            self.release(caller, cookie);
            return Err(failure);
        }
        log::info!(uid:% = caller.principal, sender = owner.as_str(), reason; "an inhibitor keeps the model in memory");
        Ok(cookie)
    }

    /// Releases an inhibitor of this caller; returns whether there was one.
    pub fn release(&self, caller: &Caller, cookie: u32) -> bool {
        let owner = caller.origin.to_string();
        self.shared
            .residency
            .lock()
            .inhibitors
            .release(&owner, cookie)
    }

    /// How long the loaded model stays in memory if it is not used; `None`: for ever.
    pub fn stays(&self) -> Option<Duration> {
        let limit = Duration::from_secs(u64::from(self.shared.config.get().engine.idle_unload_s));
        let until = self.shared.residency.lock().stays_until(limit)?;
        Some(until.saturating_sub(self.now()))
    }

    /// Whether an engine processes requests or loads a model.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.residency.lock().is_busy()
    }

    /// The model that takes requests now.
    pub(crate) fn ready(&self) -> Option<ReadyModel> {
        self.shared.residency.lock().ready()
    }

    /// Opens a slot of a model that is ready.
    pub(crate) fn slot(&self, model: &str) -> Option<Slot> {
        let limits = self.shared.board.limits();
        let mut residency = self.shared.residency.lock();
        let slot = residency.slot(model, limits)?;
        self.shared.board.set_activity(residency.activity());
        Some(slot)
    }

    /// A use of a model ended: from now on its keep-alive counts. `is_awaited`: other
    /// callers wait for it.
    pub(crate) fn used(&self, model: &str, keep: Option<&Keep>, is_awaited: bool) {
        let now = self.now();
        self.change(|pool| pool.used(now, model, keep, is_awaited));
    }

    /// Clears the engines' prefix caches: the prompts of one user, or all.
    pub(crate) fn forget_prompts(&self, uid: Option<u32>) {
        let residency = self.shared.residency.lock();
        residency.broadcast(Command::ForgetPrompts { uid });
    }

    fn check_running(&self) -> Result<(), Failure> {
        if self.shared.residency.lock().is_draining() {
            return Err(stopping());
        }
        Ok(())
    }

    /// Changes the state, publishes it, and reports what follows from the change.
    fn change<C: Into<Consequence>>(&self, change: impl FnOnce(&mut Residency) -> C) {
        let (consequence, status) = {
            let mut residency = self.shared.residency.lock();
            let consequence = change(&mut residency).into();
            self.shared.board.set_activity(residency.activity());
            (consequence, residency.status())
        };
        publish(&self.shared.status, status);
        let event = match consequence {
            Consequence::None => None,
            Consequence::Replace => Some(PoolEvent::Replacing),
            Consequence::Unload => Some(PoolEvent::Unloading),
        };
        if let Some(event) = event {
            self.report(event);
        }
        self.shared.changed.notify_one();
    }

    /// Reports an engine's event; records a loaded model first.
    fn engine_event(&self, event: Event) {
        let Event::Loaded(info) = event else {
            self.report(PoolEvent::Engine(event));
            return;
        };
        log::info!(
            model = info.description.as_str(), context = info.context_size, ms = info.load_ms, cpu = info.cpu.as_str();
            "model loaded"
        );
        let (now, mut had_waiters) = (self.now(), false);
        self.change(|residency| had_waiters = residency.loaded_now(now, info));
        self.report(PoolEvent::Ready { had_waiters });
    }

    fn report(&self, event: PoolEvent) {
        // Its receiver runs as long as the pool.
        _ = self.shared.events.send(event);
    }

    /// Records that the supervisor advances.
    fn beat(&self) {
        let now = self.now();
        self.change(|residency| residency.beat(now));
    }

    /// Whether the model is still to be loaded.
    fn is_wanted(&self, model: &str) -> bool {
        self.shared.residency.lock().wanted() == Some(model)
    }

    /// Reports the engines' activity to the board monitor.
    fn publish_activity(&self) {
        let activity = self.shared.residency.lock().activity();
        self.shared.board.set_activity(activity);
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
