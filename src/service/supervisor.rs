//! The supervisor: one engine process for as long as its model is wanted; a lost
//! one is replaced, with back-off.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::Service;
use super::admit;
use super::engine_link::{EngineLink, executable};
use super::resume::Cause;
use super::state::{BEAT, Engine, FileId, Over};
use crate::protocol::{Command, Event, Failure, FailureKind, PROTOCOL_VERSION};

/// First pause after a crash; doubled up to the longest one.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
/// Consecutive crashes while loading after which loading the model fails.
const LOAD_CRASHES_MAX: u32 = 3;
/// The same for kills from outside, which do not imply a fault of the file: by a person, or
/// by the kernel for lack of memory.
const LOAD_KILLS_MAX: u32 = 8;
/// How long an engine may take to send its hello (it loads shared libraries first).
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an engine may take to exit.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How long an engine may take to exit while it writes prompts to the disk cache.
const KEEP_PATIENCE: Duration = Duration::from_secs(15);
/// How often sensors are read and the heartbeat is sent while the engine works.
const BUSY_TICK: Duration = Duration::from_secs(1);

/// How one engine ended.
enum Ended {
    /// It ended as requested.
    Unloaded,
    /// The model cannot be loaded.
    LoadFailed(Failure),
    /// It died; `worked` if it had been useful before.
    Crashed {
        worked: bool,
        how: String,
        cause: Cause,
    },
}

pub(super) async fn run(service: &Service) {
    let mut crashes_in_row = 0;
    loop {
        let wanted = {
            let inner = service.lock();
            if inner.draining && inner.wanted().is_none() {
                break;
            }
            inner.wanted().map(str::to_owned)
        };
        let Some(model) = wanted else {
            if service.lock().is_strained() {
                _ = tokio::time::timeout(BEAT, service.shared.changed.notified()).await;
                service.look_at_board();
            } else {
                service.shared.changed.notified().await;
            }
            continue;
        };
        let ended = session(service, &model).await;
        crashes_in_row = settle(service, &model, ended, crashes_in_row);
        if crashes_in_row > 0 {
            let pause = BACKOFF_FIRST * 2u32.saturating_pow(crashes_in_row - 1);
            tokio::time::sleep(pause.min(BACKOFF_LONGEST)).await;
        }
    }
    let mut inner = service.lock();
    inner.abandon();
    service.publish(&inner);
}

/// Takes the ended engine out of the state; returns the number of consecutive crashes.
fn settle(service: &Service, model: &str, ended: Ended, crashes_before: u32) -> u32 {
    let mut inner = service.lock();
    let cause = match ended {
        Ended::Crashed { cause, .. } => Some(cause),
        Ended::Unloaded | Ended::LoadFailed(_) => None,
    };
    for over in &inner.engine_ended(service.now(), cause) {
        note(service, over);
    }
    let mut crashes = 0;
    match ended {
        Ended::Unloaded => {}
        Ended::LoadFailed(failure) => inner.load_failed(model, &failure),
        Ended::Crashed { worked, how, cause } => {
            crashes = if worked { 1 } else { crashes_before + 1 };
            log::error!(model = model, crashes = crashes; "the engine died: {how}");
            let given_up = match cause {
                _ if worked => None,
                Cause::Crashed if crashes >= LOAD_CRASHES_MAX => Some((
                    FailureKind::ModelInvalid,
                    "the file is probably damaged, import it again",
                )),
                Cause::Killed if crashes >= LOAD_KILLS_MAX => Some((
                    FailureKind::OutOfMemory,
                    "probably for want of memory, see `journalctl -k`: end other programs, or use a smaller model",
                )),
                Cause::Crashed | Cause::Killed => None,
            };
            if let Some((kind, why)) = given_up {
                crashes = 0;
                let message = format!("the engine dies while loading {model} ({how}): {why}");
                inner.load_failed(model, &Failure::new(kind, message));
            }
        }
    }
    service.pump(&mut inner);
    crashes
}

/// Runs one engine from spawn to end.
async fn session(service: &Service, model: &str) -> Ended {
    let admitted = match admit::load_request(service, model) {
        Ok(admitted) => admitted,
        Err(failure) => return Ended::LoadFailed(failure),
    };
    let config = service.config();
    let engine = executable(&config.paths.engine);
    let (commands, receiver) = mpsc::unbounded_channel();
    let mut link = match EngineLink::spawn(&engine, receiver) {
        Ok(link) => link,
        Err(error) => {
            return Ended::LoadFailed(Failure::new(
                FailureKind::Internal,
                format!("cannot start the engine {}: {error}", engine.display()),
            ));
        }
    };
    {
        let mut inner = service.lock();
        inner.engine = Some(Engine {
            model: model.to_owned(),
            commands: commands.clone(),
            pid: link.pid(),
            info: None,
            is_ending: false,
            file: file_id(&admitted.request.path),
            note: admitted.note,
        });
        inner.beat(service.now());
        service.publish(&inner);
    }
    let hello = tokio::time::timeout(HELLO_TIMEOUT, link.event()).await;
    match hello {
        Ok(Some(Event::Hello {
            protocol: PROTOCOL_VERSION,
            ..
        })) => {}
        Ok(Some(Event::Hello { version, .. })) => {
            return Ended::LoadFailed(Failure::new(
                FailureKind::Internal,
                format!(
                    "{} is of another version ({version}): reinstall the package",
                    engine.display()
                ),
            ));
        }
        _ => return crashed(service, &mut link, false, END_PATIENCE).await,
    }
    _ = commands.send(Command::Load(admitted.request));
    let load_timeout = Duration::from_secs(u64::from(config.engine.load_timeout_s));
    let hang_timeout = Duration::from_secs(u64::from(config.engine.hang_timeout_s));
    let mut pulse = Pulse::new(service.now());
    let mut worked = false;
    // One timer across all events: a stream of tokens must not delay it.
    let mut tick = std::pin::pin!(tokio::time::sleep(BUSY_TICK));
    loop {
        tokio::select! {
            event = link.event() => match event {
                Some(Event::LoadFailed(failure)) => {
                    _ = link.end(END_PATIENCE).await;
                    return Ended::LoadFailed(failure);
                }
                Some(Event::Pong { ticks, busy, .. }) => pulse.pong(service.now(), ticks, busy),
                Some(event) => {
                    worked |= matches!(event, Event::Started { .. });
                    pulse.alive(service.now());
                    handle(service, event);
                }
                None => return crashed(service, &mut link, worked, END_PATIENCE).await,
            },
            () = service.shared.changed.notified() => {}
            () = &mut tick => {
                beat(service, &commands);
                let (busy, ready) = {
                    let inner = service.lock();
                    (inner.is_busy(), inner.is_ready())
                };
                let limit = if ready { hang_timeout } else { load_timeout };
                if !busy {
                    pulse.alive(service.now());
                } else if pulse.silent(service.now()) > limit {
                    log::error!(model = model; "the engine makes no progress for {} s: killing it", limit.as_secs());
                    return crashed(service, &mut link, worked, Duration::ZERO).await;
                }
                let pause = if busy { service.lock().look_again() } else { BEAT };
                tick.as_mut().reset(tokio::time::Instant::now() + pause);
            }
        }
        // If another model is wanted, running answers are finished first; if none is
        // wanted, they were cancelled already.
        if service.lock().end_unwanted_engine() {
            _ = commands.send(Command::Shutdown);
            // Frames still in transit are no longer of use.
            while link.left_over().is_some() {}
            _ = link.end(KEEP_PATIENCE).await;
            return Ended::Unloaded;
        }
    }
}

/// Reads the sensors, sends limits and the heartbeat.
fn beat(service: &Service, commands: &mpsc::UnboundedSender<Command>) {
    service.look_at_board();
    let now = service.now();
    let mut inner = service.lock();
    inner.beat(now);
    if inner.is_busy() {
        _ = commands.send(Command::Ping { seq: 0 });
    }
    let idle_limit = Duration::from_secs(u64::from(service.config().engine.idle_unload_s));
    if inner.unload_idle(now, idle_limit) {
        log::info!(
            "the model is unloaded: not used for {} s",
            idle_limit.as_secs()
        );
    }
    service.publish(&inner);
}

fn handle(service: &Service, event: Event) {
    if let Event::Loaded(info) = &event {
        log::info!(
            model = info.description.as_str(), context = info.context_size, ms = info.load_ms, cpu = info.cpu.as_str();
            "model loaded"
        );
        service.shared.loaded.notify_one();
    }
    // A token changes nothing that others see: on the path of every token no lock is taken
    // twice and nothing is published.
    let quiet = matches!(event, Event::Token { .. } | Event::Prefill { .. });
    let is_loaded = matches!(event, Event::Loaded(_));
    let mut inner = service.lock();
    let over = inner.route(service.now(), event);
    if let Some(over) = &over {
        note(service, over);
    }
    if !quiet {
        service.pump(&mut inner);
    }
    drop(inner);
    if is_loaded {
        service.use_tuning();
    }
}

/// Writes to journal and metrics: lengths and timings, never text.
fn note(service: &Service, over: &Over) {
    service.shared.metrics.over(over);
    let ms = u64::try_from(over.waited.as_millis()).unwrap_or(u64::MAX);
    let (job, uid, sender, model) = (
        over.id.0,
        over.uid,
        over.sender.as_str(),
        over.model.as_str(),
    );
    let (caller_unit, charged) = (over.unit.as_deref().unwrap_or_default(), over.charged);
    match &over.result {
        Ok(usage) => log::info!(
            job, uid, caller_unit, sender, model, ms, charged,
            prompt_tokens = usage.prompt_tokens, tokens = usage.completion_tokens,
            tokens_per_second = usage.tokens_per_second();
            "answered"
        ),
        Err(failure) => log::info!(
            job, uid, caller_unit, sender, model, ms, charged;
            "not answered: {failure}"
        ),
    }
}

/// The engine has ended or has to be ended: processes its remaining events and reports how
/// it ended. With zero patience the daemon kills it.
async fn crashed(
    service: &Service,
    link: &mut EngineLink,
    worked: bool,
    patience: Duration,
) -> Ended {
    let ended = link.end(patience).await;
    let killed = ended.as_ref().ok().and_then(ExitStatus::signal) == Some(Signal::SIGKILL as i32);
    let cause = if killed && !patience.is_zero() {
        Cause::Killed
    } else {
        Cause::Crashed
    };
    let how = match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    while let Some(event) = link.left_over() {
        match event {
            Event::LoadFailed(failure) => return Ended::LoadFailed(failure),
            event => handle(service, event),
        }
    }
    Ended::Crashed { worked, how, cause }
}

/// Identifies the file.
fn file_id(path: &Path) -> FileId {
    std::fs::metadata(path).map_or_else(
        |_| FileId::default(),
        |meta| FileId {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        },
    )
}

/// When the engine last made progress.
struct Pulse {
    last: Duration,
    ticks: u64,
}

impl Pulse {
    fn new(now: Duration) -> Self {
        Self {
            last: now,
            ticks: 0,
        }
    }

    fn alive(&mut self, now: Duration) {
        self.last = now;
    }

    fn pong(&mut self, now: Duration, ticks: u64, busy: bool) {
        if ticks != self.ticks || !busy {
            self.ticks = ticks;
            self.last = now;
        }
    }

    fn silent(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }
}
