//! The main loop: takes commands between two units of work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use hearth_proto::{Command, Event, Failure, Limits, RequestId};

use super::affinity;
use super::backend::{Backend, Progress};
use super::clock;
use super::link::Link;
use super::pace::Pace;
use super::texts::{self, Pooled, Tokenize};
use super::worker::Worker;

/// The idle time before prompts are written to disk: a conversation has pauses, and the
/// next question must not wait for a memory card.
const IDLE_BEFORE_WRITING: Duration = Duration::from_secs(2);

/// How often to check whether a write has finished.
const WRITE_POLL: Duration = Duration::from_millis(100);

/// Serves one loaded model until the daemon ends it.
pub(super) struct MainLoop<B: Backend> {
    worker: Worker<B>,
    /// Texts to embed or to score.
    pooled: VecDeque<(RequestId, Pooled)>,
    limits: Limits,
    began: Instant,
    /// The end of the rest that the duty requires.
    rest_until: Option<Instant>,
    pace: Pace,
    /// A `Shrink` is to be completed when nothing runs.
    shrinks: bool,
    /// When it last computed.
    idle_since: Instant,
    link: Link,
    progress: Arc<Progress>,
    events: Vec<Event>,
}

/// How long the loop may wait for a command.
enum Wait {
    /// Not at all: there is work.
    No,
    /// For the rest that the duty requires.
    Rest(Duration),
    /// Until a command arrives: nothing to do, or nothing allowed.
    Forever,
}

impl<B: Backend> MainLoop<B> {
    pub(super) fn new(
        worker: Worker<B>,
        limits: Limits,
        link: Link,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            worker,
            pooled: VecDeque::new(),
            limits,
            began: clock::now(),
            rest_until: None,
            pace: Pace::default(),
            shrinks: false,
            idle_since: clock::now(),
            link,
            progress,
            events: Vec::new(),
        }
    }

    /// Runs until `Shutdown` or until the daemon is gone.
    pub(super) fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let wait = self.wait();
            self.progress.set_busy(matches!(wait, Wait::No));
            let command = match wait {
                Wait::No => commands.try_recv(),
                Wait::Rest(time) => commands.recv_timeout(time).map_err(|e| match e {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                }),
                Wait::Forever => commands.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match command {
                Ok(Command::Shutdown) => return self.worker.write_all(),
                Err(TryRecvError::Disconnected) => return,
                Ok(command) => self.execute(command),
                Err(TryRecvError::Empty) if self.is_idle() => self.worker.write_next(),
                Err(TryRecvError::Empty) => self.tick(),
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.worker.is_idle() && self.pooled.is_empty()
    }

    /// Always waits for a command, so a cancel or new limits end the wait at once.
    fn wait(&mut self) -> Wait {
        if self.limits.paused {
            return Wait::Forever;
        }
        if self.is_idle() {
            let due = self.idle_since + IDLE_BEFORE_WRITING;
            return if self.worker.has_to_write() {
                let left = due.saturating_duration_since(clock::now());
                Wait::Rest(left.max(WRITE_POLL))
            } else {
                Wait::Forever
            };
        }
        let left = self
            .rest_until
            .map(|t| t.saturating_duration_since(clock::now()));
        match left {
            Some(time) if !time.is_zero() => Wait::Rest(time),
            _ => Wait::No,
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Generate(request) => {
                let kind = self.worker.backend.info().kind;
                match kind.check(request.prompt.wanted()) {
                    Ok(()) => self.worker.submit(request),
                    Err(failure) => {
                        let id = request.id;
                        self.link.send(&[Event::Failed { id, failure }]);
                    }
                }
            }
            Command::Cancel { id } => {
                // Otherwise it has already ended and sent its last event.
                if self.worker.cancel(id) {
                    let failure = Failure::cancelled();
                    self.link.send(&[Event::Failed { id, failure }]);
                }
            }
            Command::SetLimits(limits) => self.set_limits(limits),
            Command::Tokenize {
                id,
                text,
                bos,
                plain,
                pieces,
            } => {
                let wanted = Tokenize {
                    text: &text,
                    bos,
                    plain,
                    pieces,
                };
                let event = texts::tokenize(&self.worker.backend, id, &wanted);
                self.link.send(&[event]);
            }
            Command::Detokenize { id, tokens } => {
                let event = texts::detokenize(&self.worker.backend, id, &tokens);
                self.link.send(&[event]);
            }
            Command::Render(request) => {
                let event = self.worker.render(&request);
                self.link.send(&[event]);
            }
            Command::Embed {
                id,
                input,
                truncate,
            } => self
                .pooled
                .push_back((id, Pooled::Embed { input, truncate })),
            Command::Rerank {
                id,
                query,
                document,
            } => self
                .pooled
                .push_back((id, Pooled::Rank { query, document })),
            Command::Shrink => {
                self.worker.trim_unused();
                self.shrinks = !self.worker.is_idle();
            }
            Command::ReleaseDraft => self.worker.backend.release_draft(),
            Command::ForgetPrompts { uid } => self.worker.forget(uid),
            // Handled by the reader thread or the loop, or never sent to a loaded engine.
            Command::Load(_) | Command::Ping { .. } | Command::Shutdown => {}
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        if limits.cpus != self.limits.cpus {
            affinity::pin(limits.cpus);
        }
        let where_from = |l: &Limits| (l.cpus, l.threads, l.decode_threads);
        if where_from(&limits) != where_from(&self.limits) {
            self.pace.reset();
        }
        self.limits = limits;
        let (threads, decode) = (limits.threads, limits.decode_threads);
        self.worker.backend.set_threads(threads, decode);
        // The rest was computed for the old duty; the next tick sets a new one.
        self.rest_until = None;
    }

    fn tick(&mut self) {
        self.progress.tick();
        let began = clock::now();
        let now = began.duration_since(self.began);
        if let Some((id, text)) = self.pooled.pop_front() {
            let event = texts::pool(&mut self.worker.backend, id, &text);
            self.link.send(&[event]);
        }
        let computed = self.worker.plan(now, &self.limits);
        let is_prefill = self.worker.plans_prefill();
        self.send_events();
        self.link.set_running(computed);
        self.worker.tick(now);
        self.link.set_running(None);
        self.rest_until = if self.is_idle() {
            self.idle_since = clock::now();
            if std::mem::take(&mut self.shrinks) {
                self.worker.trim_unused();
            }
            None
        } else {
            let computing = clock::now();
            let took = computing.duration_since(began);
            let rest = self.pace.rest(took, is_prefill, self.limits.duty);
            (!rest.is_zero()).then(|| computing + rest)
        };
        self.send_events();
    }

    fn send_events(&mut self) {
        self.events.extend(self.worker.events());
        if !self.events.is_empty() {
            self.link.send(&self.events);
            self.events.clear();
        }
    }
}
