//! The tick loop: takes commands between two units of work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::time::{Duration, Instant};

use super::backend::{Backend, Progress};
use super::link::Link;
use super::sequence::Sequence;
use crate::prompt::Template;
use crate::protocol::{Command, Event, Failure, GenerateRequest, Limits};

/// How often a paused engine looks whether it may go on or was cancelled.
const PAUSE_STEP: Duration = Duration::from_millis(20);

/// Serves one loaded model until the daemon says stop.
pub(super) struct Ticker<B> {
    backend: B,
    template: Template,
    limits: Limits,
    waiting: VecDeque<GenerateRequest>,
    running: Option<Sequence>,
    link: Link,
    progress: Arc<Progress>,
    events: Vec<Event>,
}

impl<B: Backend> Ticker<B> {
    pub(super) fn new(
        backend: B,
        template: Template,
        limits: Limits,
        link: Link,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            backend,
            template,
            limits,
            waiting: VecDeque::new(),
            running: None,
            link,
            progress,
            events: Vec::new(),
        }
    }

    /// Runs until `Shutdown` or until the daemon is gone.
    pub(super) fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let idle = self.running.is_none() && self.waiting.is_empty();
            self.progress.set_busy(!idle);
            let command = if idle {
                commands.recv().map_err(|RecvError| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => self.tick(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate(request) => self.waiting.push_back(request),
            Command::SetLimits(limits) => {
                self.limits = limits;
                self.backend.set_threads(limits.threads);
            }
            Command::Count { id, text } => {
                let tokens = self.backend.tokenize(&text, false).len();
                self.link.send(&[Event::Counted {
                    id,
                    tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                }]);
            }
            // Handled by the reader thread, or never sent to a loaded engine.
            Command::Load(_) | Command::Cancel { .. } | Command::Ping { .. } | Command::Shutdown => {}
        }
    }

    fn tick(&mut self) {
        self.progress.tick();
        if self.running.is_none() {
            self.begin_next();
        }
        let Some(sequence) = &mut self.running else {
            return;
        };
        if self.limits.paused && !self.progress.is_abort() {
            std::thread::sleep(PAUSE_STEP);
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "the engine measures its own work")]
        let began = Instant::now();
        let over = if self.progress.is_abort() {
            self.events.push(cancelled(sequence));
            true
        } else {
            sequence.tick(&mut self.backend, self.limits.prefill_chunk, &mut self.events)
        };
        if over {
            self.running = None;
            self.link.clear_running();
        }
        self.link.send(&self.events);
        self.events.clear();
        if !over {
            self.rest(began.elapsed());
        }
    }

    /// Sleeps for the share that the duty leaves, in steps that see a cancel.
    fn rest(&self, worked: Duration) {
        let duty = u32::from(self.limits.duty.0.clamp(1, 1000));
        let mut left = worked * (1000 - duty) / duty;
        while !left.is_zero() && !self.progress.is_abort() {
            let step = left.min(PAUSE_STEP);
            std::thread::sleep(step);
            left -= step;
        }
    }

    fn begin_next(&mut self) {
        let Some(request) = self.waiting.pop_front() else {
            return;
        };
        let id = request.id;
        if !self.link.set_running(id) {
            self.events.push(Event::Failed {
                id,
                failure: Failure::cancelled(),
            });
        } else {
            match Sequence::begin(&mut self.backend, &self.template, &request) {
                Ok(sequence) => {
                    self.events.push(sequence.started());
                    self.running = Some(sequence);
                }
                Err(failure) => {
                    self.link.clear_running();
                    self.events.push(Event::Failed { id, failure });
                }
            }
        }
        self.link.send(&self.events);
        self.events.clear();
    }
}

fn cancelled(sequence: &Sequence) -> Event {
    Event::Failed {
        id: sequence.id(),
        failure: Failure::cancelled(),
    }
}
