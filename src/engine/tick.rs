//! The tick loop: takes commands between two units of work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::backend::{Backend, Progress};
use super::clock;
use super::link::Link;
use super::sequence::{Sequence, as_u32};
use crate::prompt::Template;
use crate::protocol::{Command, Event, Failure, GenerateRequest, Limits, RequestId};
use crate::scheduler::{Batch, SlotId, Slots};

/// The longest text that `Count` takes, in bytes: tokenizing cannot be interrupted.
const COUNT_BYTES_MAX: usize = 1024 * 1024;

/// Serves one loaded model until the daemon says stop.
pub(super) struct Ticker<B> {
    backend: B,
    template: Template,
    limits: Limits,
    waiting: VecDeque<GenerateRequest>,
    running: Option<(SlotId, Sequence)>,
    slots: Slots,
    batch: Batch,
    /// The duty's rest lasts until then.
    rest_until: Option<Instant>,
    link: Link,
    progress: Arc<Progress>,
    events: Vec<Event>,
}

/// How long the loop may wait for a command.
enum Wait {
    /// Not at all: there is work.
    No,
    /// The rest of the duty.
    Rest(Duration),
    /// Until one comes: nothing to do, or nothing allowed.
    Forever,
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
            slots: Slots::new(1),
            batch: Batch::default(),
            rest_until: None,
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
                Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => self.tick(),
            }
        }
    }

    /// Waiting is always for a command, so a cancel or new limits end it at once.
    fn wait(&self) -> Wait {
        let idle = self.running.is_none() && self.waiting.is_empty();
        if idle || self.limits.paused {
            return Wait::Forever;
        }
        let left = self
            .rest_until
            .map(|t| t.saturating_duration_since(clock::now()));
        match left {
            Some(time) if !time.is_zero() => Wait::Rest(time),
            _ => Wait::No,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate(request) => self.waiting.push_back(request),
            Command::Cancel { id } => self.cancel(id),
            Command::SetLimits(limits) => {
                self.limits = limits;
                self.backend.set_threads(limits.threads);
                // The rest was meant for the old duty; the next tick sets a new one.
                self.rest_until = None;
            }
            Command::Count { id, text } => {
                let event = self.count(id, &text);
                self.link.send(&[event]);
            }
            // Handled by the reader thread or the loop, or never sent to a loaded engine.
            Command::Load(_)
            | Command::Ping { .. }
            | Command::ForgetPrompts
            | Command::Shutdown => {}
        }
    }

    fn count(&self, id: RequestId, text: &str) -> Event {
        if text.len() > COUNT_BYTES_MAX {
            let message = format!(
                "the text has {} bytes, at most {COUNT_BYTES_MAX} are counted at once: split it",
                text.len()
            );
            return Event::Failed {
                id,
                failure: Failure::invalid(message),
            };
        }
        let tokens = as_u32(self.backend.tokenize(text, true).len());
        Event::Counted { id, tokens }
    }

    fn cancel(&mut self, id: RequestId) {
        let known = match &self.running {
            Some((_, running)) if running.id() == id => {
                self.end_running();
                true
            }
            _ => {
                let before = self.waiting.len();
                self.waiting.retain(|request| request.id != id);
                self.waiting.len() < before
            }
        };
        // Else it is over already and had its last event.
        if known {
            self.link.send(&[Event::Failed {
                id,
                failure: Failure::cancelled(),
            }]);
        }
    }

    /// Frees the slot of the running request.
    fn end_running(&mut self) {
        if let Some((slot, _)) = self.running.take() {
            self.slots.release(slot);
        }
        self.link.set_running(None);
        self.rest_until = None;
    }

    fn tick(&mut self) {
        self.progress.tick();
        self.rest_until = None;
        if self.running.is_none() {
            self.begin_next();
        }
        let began = clock::now();
        let Some((_, sequence)) = &mut self.running else {
            return;
        };
        self.slots.plan(&self.limits, &mut self.batch);
        let Some(step) = self.batch.steps().first().copied() else {
            return;
        };
        let end = sequence.step(&mut self.backend, step.work, &mut self.events);
        self.slots.apply(step);
        if let Some(event) = end {
            self.events.push(event);
            self.end_running();
        } else {
            self.rest_until = self.rest_after(began);
        }
        self.link.send(&self.events);
        self.events.clear();
    }

    /// When work may go on so that computing takes the duty's share of the time.
    fn rest_after(&self, began: Instant) -> Option<Instant> {
        let duty = u32::from(self.limits.duty.0.clamp(1, 1000));
        if duty == 1000 {
            return None;
        }
        let now = clock::now();
        Some(now + (now - began) * (1000 - duty) / duty)
    }

    fn begin_next(&mut self) {
        let Some(request) = self.waiting.pop_front() else {
            return;
        };
        let id = request.id;
        self.link.set_running(Some(id));
        let begun = Sequence::begin(&mut self.backend, &self.template, &request);
        let event = match begun {
            Ok(sequence) => {
                let prompt_tokens = sequence.prompt_tokens();
                // One slot, and it is free: only an empty prompt could be refused, and
                // `begin` refuses that.
                if let Some(slot) = self.slots.take(prompt_tokens, 0) {
                    self.running = Some((slot, sequence));
                }
                Event::Started {
                    id,
                    prompt_tokens,
                    cached_tokens: 0,
                }
            }
            Err(failure) => {
                self.link.set_running(None);
                Event::Failed { id, failure }
            }
        };
        self.link.send(&[event]);
    }
}
