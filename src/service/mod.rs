//! Admission, queue, jobs, streams and the supervisor of the engine.
//!
//! [`Service`] is a cheap handle on one shared state. Methods that only access that state
//! return at once; nothing here blocks the runtime. The transports translate, the service
//! decides.

mod admit;
mod board;
mod choices;
mod clock;
mod embed;
mod engine_link;
mod import;
mod jobs;
mod keep_alive;
mod metrics;
mod models;
mod prewarm;
mod prompts;
mod resume;
mod sessions;
mod state;
mod supervisor;
mod tokens;
mod tune;
mod types;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hearth_policy::quota::Charged;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::Config;
use crate::governor::Reading;
use crate::models::Store;
use crate::protocol::{
    Command, Event, Failure, FailureKind, Message, ModelKind, Prompt, RequestId, Sampling,
};
use crate::sensors::Sensors;

pub use board::Board;
pub use choices::Choices;
pub use embed::Embeddings;
pub use hearth_api::{ollama, openai};
pub use keep_alive::{Client, Keep, KeepAlive};
use metrics::Metrics;
pub use models::Props;
pub use prewarm::Prewarm;
pub use prompts::PromptEntry;
use resume::Progress;
use state::{Inner, Waiting, governor_settings};
use tune::Tunings;
pub use tune::{Speed, Tuned, Tuning};
pub use types::{
    Answer, Caller, JobState, JobView, ModelEntry, Permission, SessionState, SessionView, State,
    Status, Stream, StreamEvent, Submission, Turn,
};

/// Seconds after which a refused caller may try again.
const RETRY_S: u32 = 5;

/// Handle on the service; clones share everything.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RwLock<Arc<Config>>,
    store: Store,
    sensors: Sensors,
    inner: Mutex<Inner>,
    status: watch::Sender<Status>,
    metrics: Metrics,
    tunings: Tunings,
    /// Wakes the supervisor when the wanted model or the work has changed.
    changed: Notify,
    /// Wakes the prewarming task when a model has been loaded.
    loaded: Notify,
    started: Instant,
}

/// Cancels a request when dropped, unless disarmed.
#[derive(Debug)]
pub(crate) struct CancelGuard {
    service: Service,
    id: RequestId,
    armed: bool,
}

impl CancelGuard {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if self.armed {
            self.service.cancel(self.id, Failure::cancelled());
        }
    }
}

impl Service {
    /// A service over the configured folders; nothing runs until [`Self::supervise`].
    pub fn new(config: Config) -> Self {
        let store = Store::open(&config.paths.models, &config.paths.models_packaged);
        let sensors = Sensors::new(&config.paths.sensors_root);
        let threads = match config.engine.threads {
            0 => sensors.threads_max(),
            n => n,
        };
        let tunings = Tunings::read(&config.paths.tuning);
        let inner = Inner::new(governor_settings(&config.governor, threads));
        #[expect(clippy::disallowed_methods, reason = "the one clock of the service")]
        let started = Instant::now();
        let service = Self {
            shared: Arc::new(Shared {
                config: RwLock::new(Arc::new(config)),
                store,
                sensors,
                status: watch::Sender::new(inner.status()),
                inner: Mutex::new(inner),
                metrics: Metrics::default(),
                tunings,
                changed: Notify::new(),
                loaded: Notify::new(),
                started,
            }),
        };
        if service.config().model.preload {
            service.want_default();
        }
        service
    }

    /// Runs the engine whenever a model is wanted; returns when the service has drained.
    pub async fn supervise(&self) {
        tokio::select! {
            () = supervisor::run(self) => {}
            () = self.prewarm_after_loads() => {}
        }
    }

    /// The current configuration.
    pub fn config(&self) -> Arc<Config> {
        let config = self
            .shared
            .config
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }

    /// Sets a new configuration; it applies to later requests and loads, and the governor's
    /// part from the next reading on.
    pub fn set_config(&self, config: Config) {
        self.set_governor(&config.governor);
        let mut current = self
            .shared
            .config
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(config);
    }

    /// The service's state and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The systemd unit of a process, if it is known.
    pub fn unit_of(&self, pid: u32) -> Option<String> {
        self.shared.sensors.unit(pid)
    }

    /// Whether the supervisor advances; the watchdog is notified only while it does.
    pub fn is_advancing(&self) -> bool {
        self.lock().is_advancing(self.now())
    }

    /// Enqueues a request, or refuses it at once with the reason.
    ///
    /// # Errors
    /// `Busy` while draining, `QueueFull`, `QuotaExceeded`, `ModelNotFound`, `InvalidArgs`,
    /// `ContextTooLong` where the text alone is over the configured bound, `InvalidSchema`
    /// where the constraint can already be seen to be unusable.
    pub fn submit(&self, caller: &Caller, submission: Submission) -> Result<Stream, Failure> {
        self.submit_as(caller, submission, Some(caller.uid))
    }

    /// As [`Self::submit`]; without a `uid` the computed prefix is shared by all users.
    fn submit_as(
        &self,
        caller: &Caller,
        submission: Submission,
        uid: Option<u32>,
    ) -> Result<Stream, Failure> {
        // Without an engine the sensors were not read for a while.
        self.refresh_sensors();
        let config = self.config();
        check_size(&submission.request.prompt, config.queue.prompt_max_bytes)?;
        let admitted = hearth_constraint::check(&submission.request)
            .and_then(|()| self.admit(caller, submission, uid, &config));
        if let Err(failure) = &admitted {
            self.shared.metrics.refused(&caller.sender, failure.kind);
        }
        admitted
    }

    /// Resolves the name of the model, and its kind if that is already known.
    fn find(
        &self,
        inner: &Inner,
        name: &str,
        config: &Config,
    ) -> Result<(String, Option<ModelKind>), Failure> {
        let is_any = name.is_empty() || name == "default";
        if let Some(loaded) = inner
            .loaded_model()
            .filter(|loaded| is_any || *loaded == name)
        {
            let info = inner.engine.as_ref().and_then(|e| e.info.as_ref());
            return Ok((loaded.to_owned(), info.map(|info| info.kind)));
        }
        let found = self.shared.store.resolve(name, &config.model.default)?;
        // The engine will report what is wrong with a header that cannot be read.
        let kind = found.header.ok().and_then(|header| header.model_kind());
        Ok((found.name, kind))
    }

    fn admit(
        &self,
        caller: &Caller,
        mut submission: Submission,
        uid: Option<u32>,
        config: &Config,
    ) -> Result<Stream, Failure> {
        let name = submission.model.as_deref().unwrap_or_default();
        let now = self.now();
        let (sender, events) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        if inner.draining {
            return Err(stopping());
        }
        if let Some(failure) = inner.refused_by_board() {
            return Err(failure);
        }
        let (model, kind) = self.find(&inner, name, config)?;
        if let Some(text) = submission.base_text.take()
            && kind == Some(ModelKind::Base)
        {
            submission.request.prompt = Prompt::Text(text);
        }
        if let Some(kind) = kind {
            kind.check(submission.request.prompt.wanted())?;
        }
        let waiting = inner.asked_for();
        if uid.is_some() && waiting >= config.queue.length_max as usize {
            return Err(Failure::new(
                FailureKind::QueueFull,
                format!(
                    "{waiting} requests are waiting already: try again later, or raise `queue.length_max`"
                ),
            )
            .retry_after(RETRY_S));
        }
        if uid.is_some() {
            inner.check_jobs(caller, &config.limits)?;
            inner.check_tokens(now, caller, &config.limits)?;
        }
        if let Some(seconds) = inner.quarantine.refused_s(now, &submission.request) {
            return Err(Failure::new(
                FailureKind::EngineCrashed,
                format!(
                    "this request made the engine crash: it is refused for {seconds} s; change it"
                ),
            )
            .retry_after(seconds));
        }
        let id = inner.next_id();
        let default_max = Some(config.sampling.max_tokens).filter(|n| *n > 0);
        let mut request = submission.request;
        request.id = id;
        request.uid = uid;
        request.max_tokens = request.max_tokens.or(default_max);
        let call_mode = config.sampling.tool_call_mode;
        request.call_mode.get_or_insert(call_mode);
        request.accepted_unix_s = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
        let wants_logprobs = request.logprobs.is_some();
        // Drawn here, so that another engine continues with the same seed.
        request.sampling.seed.get_or_insert_with(random_seed);
        let priority = request.priority;
        let waiting = Waiting {
            request,
            model: model.clone(),
            uid: caller.uid,
            sender: caller.sender.clone(),
            keep: caller.keep.clone(),
            unit: caller.unit.clone(),
            charged: Charged::default(),
            events: sender,
            submitted: now,
            position: None,
            progress: Progress::default(),
            file: None,
        };
        inner
            .queue
            .push(now, id, priority, waiting.caller(), waiting);
        self.pump(&mut inner);
        drop(inner);

        if let Some(deadline) = submission.deadline {
            let service = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(deadline).await;
                let failure = Failure::new(
                    FailureKind::DeadlineExceeded,
                    format!(
                        "no answer within {} ms, the request's own deadline",
                        deadline.as_millis()
                    ),
                );
                service.cancel(id, failure);
            });
        }
        Ok(Stream {
            id,
            wants_logprobs,
            model,
            events,
            guard: Some(CancelGuard {
                service: self.clone(),
                id,
                armed: true,
            }),
        })
    }

    /// Sends the engine a command that is answered by one event.
    async fn ask(
        &self,
        command: impl FnOnce(RequestId) -> Command,
        keeps: bool,
    ) -> Result<Event, Failure> {
        let (sender, answered) = oneshot::channel();
        self.lock().ask(command, sender, keeps)?;
        // The supervisor may be idle, with a long interval between its checks.
        self.shared.changed.notify_one();
        answered.await.map_err(|_| crashed())?
    }

    /// Loads a model (empty name: the default one) and waits until it is ready.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Busy`.
    pub async fn load_model(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        let model = self
            .shared
            .store
            .resolve(name, &self.config().model.default)?
            .name;
        let (sender, loaded) = oneshot::channel();
        {
            let mut inner = self.lock();
            if inner.draining {
                return Err(stopping());
            }
            log::info!(uid = caller.uid, model = model.as_str(); "load requested");
            inner.want(model, Some(sender), caller.keep.is_some());
            self.publish(&inner);
        }
        self.shared.changed.notify_one();
        loaded.await.map_err(|_| crashed())?
    }

    /// Ends the engine; running requests fail with `Cancelled`.
    ///
    /// # Errors
    /// `Busy` while draining.
    pub async fn unload_model(&self, caller: &Caller) -> Result<(), Failure> {
        let mut status = self.status();
        let pid = {
            let mut inner = self.lock();
            if inner.draining {
                return Err(stopping());
            }
            log::info!(uid = caller.uid; "unload requested");
            inner.unload();
            self.publish(&inner);
            inner.engine.as_ref().and_then(|e| e.pid)
        };
        self.shared.changed.notify_one();
        // Returns only once this engine's memory is free; waiting requests may have started
        // another engine by then.
        if pid.is_some() {
            _ = status.wait_for(|s| s.engine_pid != pid).await;
        }
        Ok(())
    }

    /// Keeps the loaded model in memory until [`Self::release`], and loads the default one
    /// if there is none; returns the inhibitor's cookie.
    ///
    /// # Errors
    /// `Busy` where this caller has too many inhibitors, else those of loading.
    pub async fn keep_loaded(&self, caller: &Caller, reason: &str) -> Result<u32, Failure> {
        let (cookie, is_loaded) = {
            let mut inner = self.lock();
            let cookie = inner.holds.add(&caller.sender);
            (cookie, inner.loaded_model().is_some())
        };
        let cookie = cookie.ok_or_else(|| {
            Failure::new(
                FailureKind::Busy,
                "you hold the model many times already: release a cookie first",
            )
        })?;
        if !is_loaded && let Err(failure) = self.load_model(caller, "").await {
            self.lock().holds.release(&caller.sender, cookie);
            return Err(failure);
        }
        log::info!(uid = caller.uid, sender = caller.sender.as_str(), reason; "the model is held");
        Ok(cookie)
    }

    /// Releases an inhibitor of this caller; returns whether there was one.
    pub fn release(&self, caller: &Caller, cookie: u32) -> bool {
        self.lock().holds.release(&caller.sender, cookie)
    }

    /// Refuses new work, lets running answers finish for at most `drain_s`, then ends the
    /// engine.
    pub async fn drain(&self) {
        let limit = Duration::from_secs(u64::from(self.config().queue.drain_s));
        self.lock().begin_drain(&stopping());
        let mut status = self.status();
        self.publish(&self.lock());
        let finished = status.wait_for(|s| s.active_jobs == 0);
        if tokio::time::timeout(limit, finished).await.is_err() {
            log::warn!(
                "running answers did not finish within {} s",
                limit.as_secs()
            );
        }
        self.lock().unload();
        self.shared.changed.notify_one();
    }

    /// The metrics in OpenMetrics text form, with the board as it is now.
    pub fn metrics(&self) -> String {
        let board = self.board();
        let status = self.shared.status.borrow();
        self.shared.metrics.encode(&status, board)
    }

    /// Reads the sensors once if nothing else does (no engine runs).
    pub fn refresh_sensors(&self) {
        let mut inner = self.lock();
        if inner.engine.is_none() {
            let reading = self.shared.sensors.read();
            inner.observe(self.now(), &reading);
            self.publish(&inner);
        }
    }

    /// Ends a request in the queue or in the engine.
    fn cancel(&self, id: RequestId, failure: Failure) {
        let mut inner = self.lock();
        let kind = failure.kind;
        if let Some(waiting) = inner.cancel(id, failure) {
            self.shared.metrics.given_up(&waiting.sender, kind);
        }
        self.pump(&mut inner);
    }

    fn want_default(&self) {
        match self.shared.store.resolve("", &self.config().model.default) {
            Ok(model) => self.lock().want(model.name, None, false),
            Err(failure) => log::warn!("nothing to preload: {failure}"),
        }
    }

    /// Sends queued work to the engine, reports changed queue positions, publishes the
    /// state.
    fn pump(&self, inner: &mut Inner) {
        if inner.pump(self.now()) {
            self.shared.changed.notify_one();
        }
        self.publish(inner);
    }

    /// The system reports memory pressure: gives up what is only cached.
    pub fn warn_of_memory(&self) {
        self.lock().warn_of_memory(self.now());
        self.look_at_board();
        // The supervisor has to check whether the engine is to end.
        self.shared.changed.notify_one();
    }

    /// Reads the sensors and sends new limits to the engine.
    fn look_at_board(&self) -> Reading {
        let reading = self.shared.sensors.read();
        let now = self.now();
        let mut inner = self.lock();
        if let Some(limits) = inner.observe(now, &reading)
            && let Some(engine) = &inner.engine
        {
            _ = engine.commands.send(Command::SetLimits(limits));
        }
        self.publish(&inner);
        reading
    }

    fn publish(&self, inner: &Inner) {
        let status = inner.status();
        self.shared.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held would be a defect, but no reason to stop serving.
        self.shared
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the service started: the clock of the pure code.
    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn sampling_defaults(&self) -> Sampling {
        Sampling::from(&self.config().sampling)
    }
}

/// A random seed: the standard library draws its hash keys at random.
fn random_seed() -> u32 {
    let drawn = RandomState::new().build_hasher().finish();
    u32::try_from(drawn >> 32).unwrap_or_default()
}

fn stopping() -> Failure {
    Failure::new(
        FailureKind::Busy,
        "the service is stopping: try again when it is back",
    )
    .retry_after(RETRY_S)
}

fn crashed() -> Failure {
    Failure::new(
        FailureKind::EngineCrashed,
        "the engine process ended more than once while it worked on this; it is restarted by itself",
    )
}

/// Refuses a prompt that is too long: a small board needs minutes to tokenize megabytes of
/// text.
fn check_size(prompt: &Prompt, max: u32) -> Result<(), Failure> {
    let size = |m: &Message| m.content.len() + m.reasoning_content.len();
    let bytes = match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat { messages, .. } => messages.iter().map(size).sum(),
    };
    check_bytes(bytes, max)
}

fn check_bytes(bytes: usize, max: u32) -> Result<(), Failure> {
    if bytes <= max as usize {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::ContextTooLong,
        format!(
            "the prompt has {bytes} bytes, at most {max} are taken: shorten it, or raise `queue.prompt_max_bytes`"
        ),
    ))
}
