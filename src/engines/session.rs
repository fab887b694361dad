//! One engine process, from its start to its end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use hearth_proto::{Command, Event, Failure, FailureKind, LoadRequest, PROTOCOL_VERSION};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};

use super::admission::admit;
use super::load::Admitted;
use super::process::EngineProcess;
use super::resident::{Engine, Resident};
use super::slot::Slots;
use super::{Death, EnginePool, HEARTBEAT};

/// How long an engine may take to send its hello (it loads shared libraries first).
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an engine may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an engine may take to exit while it writes prompts to the disk cache.
const CACHE_WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the heartbeat is sent while the engine works.
const BUSY_TICK: Duration = Duration::from_secs(1);

/// How one engine ended.
pub(super) enum Ended {
    /// It ended as requested.
    Unloaded,
    /// The model cannot be loaded.
    LoadFailed(Failure),
    /// It crashed or was killed; `worked` if it had started a request before.
    Crashed {
        worked: bool,
        how: String,
        death: Death,
    },
}

/// An engine whose memory is reserved, and whose process is not started yet.
pub(super) fn unstarted(admitted: &Admitted, changed: &watch::Sender<()>) -> Engine {
    Engine {
        commands: mpsc::unbounded_channel().0,
        serial: 0,
        pid: None,
        file: admitted.file,
        parts: admitted.parts.clone(),
        note: admitted.note.clone(),
        slots: Slots::new(changed.clone()),
        info: None,
        load_progress: 0.0,
        is_ending: false,
        limits: admitted.request.limits,
        estimate: admitted.estimate,
        draft: admitted.draft.clone(),
        ready_since: Duration::ZERO,
        has_worked: false,
    }
}

/// Waits until there is room for a model, and runs its engine from start to end; `None` if
/// the model is no longer wanted.
pub(super) async fn run_engine(pool: &EnginePool, model: &str) -> Option<Ended> {
    let admitted = match admit(pool, model).await {
        Ok(admitted) => admitted?,
        Err(failure) => return Some(Ended::LoadFailed(failure)),
    };
    admitted.log(model);
    let config = pool.shared.config.get();
    let path = config.paths.engine_executable();
    let (commands, receiver) = mpsc::unbounded_channel();
    let process = match pool.shared.launcher.start(&path, receiver) {
        Ok(process) => process,
        Err(error) => {
            let message = format!("cannot start the engine {}: {error}", path.display());
            let failure = Failure::new(FailureKind::Internal, message);
            return Some(Ended::LoadFailed(failure));
        }
    };
    let now = pool.now();
    pool.change(|residency| residency.started(now, model, process.pid()));
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    let session = Session {
        pool,
        model,
        process,
        commands,
        changes: pool.shared.changed.subscribe(),
        progress: Progress::new(now),
        worked: false,
        load_timeout: seconds(config.engine.load_timeout_s),
        hang_timeout: seconds(config.engine.hang_timeout_s),
    };
    Some(session.run(admitted.request).await)
}

/// One engine process, from its start to its end.
struct Session<'a> {
    pool: &'a EnginePool,
    model: &'a str,
    process: EngineProcess,
    commands: mpsc::UnboundedSender<Command>,
    changes: watch::Receiver<()>,
    progress: Progress,
    /// Whether it has started a request.
    worked: bool,
    load_timeout: Duration,
    hang_timeout: Duration,
}

impl Session<'_> {
    // Longer than a screen: one event loop, from the engine's greeting to its end.
    async fn run(mut self, mut request: LoadRequest) -> Ended {
        let hello = tokio::time::timeout(HELLO_TIMEOUT, self.first_event()).await;
        match hello {
            Ok(Some(Event::Hello {
                protocol: PROTOCOL_VERSION,
                ..
            })) => {}
            Ok(Some(Event::Hello { version, .. })) => {
                return Ended::LoadFailed(Failure::new(
                    FailureKind::Internal,
                    format!(
                        "the engine has version {version}, which does not match the daemon: reinstall the package"
                    ),
                ));
            }
            _ => return self.died(EXIT_TIMEOUT).await,
        }
        if !self.pool.is_wanted(self.model) {
            _ = self.end(Duration::ZERO).await;
            return Ended::Unloaded;
        }
        request.limits = self.pool.shared.board.limits();
        let (limits, commands) = (request.limits, self.commands.clone());
        self.send(Command::Load(request));
        self.pool
            .change(|residency| residency.loading(self.model, commands, limits));
        // One timer across all events: a stream of tokens must not delay it.
        let mut tick = std::pin::pin!(tokio::time::sleep(BUSY_TICK));
        loop {
            tokio::select! {
                event = self.process.event() => match event {
                    Some(event) => {
                        if let Some(ended) = self.handle(event).await {
                            return ended;
                        }
                    }
                    None => return self.died(EXIT_TIMEOUT).await,
                },
                _ = self.changes.changed() => {}
                () = &mut tick => match self.beat() {
                    Some(pause) => tick.as_mut().reset(tokio::time::Instant::now() + pause),
                    None => return self.died(Duration::ZERO).await,
                }
            }
            // To make room for another model, running answers are finished first; after an
            // unload they were cancelled already.
            let ends = self.pool.shared.residency.lock().end_unwanted(self.model);
            if ends {
                self.send(Command::Shutdown);
                // Frames still in transit are discarded.
                while self.process.try_event().is_some() {}
                _ = self.end(CACHE_WRITE_TIMEOUT).await;
                return Ended::Unloaded;
            }
            self.publish_activity();
        }
    }

    /// The engine's first event. The heartbeat goes on meanwhile: an engine that does not
    /// start is no reason for the watchdog to end the daemon.
    async fn first_event(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                event = self.process.event() => return event,
                () = tokio::time::sleep(HEARTBEAT) => self.pool.beat(self.model),
            }
        }
    }

    /// Ends the engine. The heartbeat goes on meanwhile: it may write to a slow disk.
    async fn end(&mut self, timeout: Duration) -> (io::Result<ExitStatus>, bool) {
        let (pool, model) = (self.pool, self.model);
        let mut ending = std::pin::pin!(self.process.end(timeout));
        loop {
            tokio::select! {
                ended = &mut ending => return ended,
                () = tokio::time::sleep(HEARTBEAT) => pool.beat(model),
            }
        }
    }

    fn send(&self, command: Command) {
        // An engine that has ended is noticed by the end of its events.
        _ = self.commands.send(command);
    }

    /// Handles an event; returns how the engine ended if it did.
    async fn handle(&mut self, event: Event) -> Option<Ended> {
        let now = self.pool.now();
        match event {
            Event::LoadFailed(failure) => {
                _ = self.end(EXIT_TIMEOUT).await;
                return Some(Ended::LoadFailed(failure));
            }
            Event::Pong { ticks, busy, .. } => self.progress.pong(now, ticks, busy),
            event => {
                self.worked |= matches!(event, Event::Started { .. });
                self.progress.reset(now);
                self.pool.engine_event(self.model, event);
            }
        }
        None
    }

    fn is_idle_for(&self, now: Duration, limit: Duration) -> bool {
        let residency = self.pool.shared.residency.lock();
        residency.is_idle_for(now, self.model, limit)
    }

    /// Reports the engines' activity to the board monitor.
    fn publish_activity(&self) {
        let activity = self.pool.shared.residency.lock().activity();
        self.pool.shared.board.set_activity(activity);
    }

    /// Sends the heartbeat and unloads an idle model. Returns the time until the next
    /// heartbeat; `None` if the engine hangs.
    fn beat(&mut self) -> Option<Duration> {
        let now = self.pool.now();
        let idle_s = self.pool.shared.config.get().engine.idle_unload_s;
        let idle_limit = Duration::from_secs(u64::from(idle_s));
        self.pool.beat(self.model);
        if self.is_idle_for(now, idle_limit) {
            log::info!(model = self.model; "unloading the model: not used for {idle_s} s");
            self.pool
                .change(|residency| residency.unload_idle(now, self.model, idle_limit));
        }
        let (busy, ready) = {
            let residency = self.pool.shared.residency.lock();
            let own = residency.get(self.model);
            (
                own.is_some_and(Resident::is_busy),
                residency.is_ready(self.model),
            )
        };
        if !busy {
            self.progress.reset(now);
            return Some(HEARTBEAT);
        }
        self.send(Command::Ping { seq: 0 });
        let limit = if ready {
            self.hang_timeout
        } else {
            self.load_timeout
        };
        if self.progress.stalled_for(now) > limit {
            log::error!(model = self.model; "the engine makes no progress for {} s: killing it", limit.as_secs());
            return None;
        }
        Some(BUSY_TICK)
    }

    /// The engine has ended or has to be ended: processes its remaining events and reports
    /// how it ended. With a timeout of zero the daemon kills it.
    async fn died(mut self, timeout: Duration) -> Ended {
        let (ended, by_daemon) = self.end(timeout).await;
        let signal = ended.as_ref().ok().and_then(ExitStatus::signal);
        let death = if signal == Some(Signal::SIGKILL as i32) && !by_daemon {
            Death::Killed
        } else {
            Death::Crashed
        };
        let how = match ended {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        while let Some(event) = self.process.try_event() {
            match event {
                Event::LoadFailed(failure) => return Ended::LoadFailed(failure),
                event => self.pool.engine_event(self.model, event),
            }
        }
        Ended::Crashed {
            worked: self.worked,
            how,
            death,
        }
    }
}

/// When the engine last made progress.
struct Progress {
    last: Duration,
    ticks: u64,
}

impl Progress {
    fn new(now: Duration) -> Self {
        Self {
            last: now,
            ticks: 0,
        }
    }

    fn reset(&mut self, now: Duration) {
        self.last = now;
    }

    fn pong(&mut self, now: Duration, ticks: u64, busy: bool) {
        if ticks != self.ticks || !busy {
            self.ticks = ticks;
            self.last = now;
        }
    }

    fn stalled_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }
}
