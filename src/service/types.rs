//! Types that the transports and the service exchange.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use super::keep_alive::Keep;
use crate::protocol::{Failure, Priority, RequestId, RequestOptions};

pub use crate::protocol::{Answer, ModelEntry, StreamEvent, Submission};

/// The caller: decides what is permitted and what it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id, from the bus or from `SO_PEERCRED`.
    pub uid: u32,
    /// The unique bus name, or `http:<pid>`; for the journal and the job list.
    pub sender: String,
    /// The keep-alive for the time after this use; `None`: as configured.
    pub keep: Option<Keep>,
    /// The systemd unit that it runs in, where known; for the journal and the job list.
    pub unit: Option<String>,
}

/// Whether a caller may manage models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// An authority was asked and has granted it.
    Granted,
    /// There is no authority: the rule of the configuration applies.
    ByRule,
}

/// The events of one accepted request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    pub(super) id: RequestId,
    pub(super) model: String,
    pub(super) wants_logprobs: bool,
    pub(super) events: mpsc::UnboundedReceiver<StreamEvent>,
    pub(super) guard: Option<super::CancelGuard>,
}

impl Stream {
    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The name of the model that answers.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        let event = ready!(self.events.poll_recv(cx));
        if matches!(
            event,
            None | Some(StreamEvent::Finished { .. } | StreamEvent::Failed(_))
        ) && let Some(guard) = self.guard.take()
        {
            guard.disarm();
        }
        Poll::Ready(event)
    }

    /// Its answer, still empty.
    pub(super) fn answer(&self) -> Answer {
        Answer {
            wants_logprobs: self.wants_logprobs,
            ..Answer::new(self.id, &self.model)
        }
    }

    /// Waits for the complete answer.
    ///
    /// # Errors
    /// The failure that ended the request.
    pub async fn collect(mut self) -> Result<Answer, Failure> {
        let mut answer = self.answer();
        while let Some(event) = self.next().await {
            if answer.add(event)? {
                return Ok(answer);
            }
        }
        Err(Failure::cancelled())
    }
}

/// The daemon's state in one word, as in the bus property `State`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No model in memory.
    #[default]
    Unloaded,
    /// A model is being loaded.
    Loading,
    /// Waiting for work.
    Ready,
    /// Working.
    Busy,
    /// Working or waiting under the governor's limits; see `LimitReason`.
    Limited,
    /// The last load failed, or the engine keeps dying.
    Failed,
}

impl State {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// Everything that the bus properties, `/health` and the metrics show, in one value, so
/// that all of them agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The state in one word.
    pub state: State,
    /// The loaded (or loading) model's name; empty when none.
    pub model: String,
    /// Context in tokens; 0 when no model is loaded.
    pub context_size: u32,
    /// Threads that the engine may use now.
    pub active_threads: u32,
    /// Size of the engine's pool.
    pub max_threads: u32,
    /// `cool`, `warm`, `hot`, `limit`, `emergency`.
    pub thermal_state: &'static str,
    /// Hottest CPU zone in degrees; 0 where the board has none.
    pub temperature_celsius: f64,
    /// `normal`, `moderate`, `critical`, `emergency`.
    pub memory_state: &'static str,
    /// Why the service is limited or failed; empty when it is not.
    pub limit_reason: String,
    /// Requests waiting.
    pub queue_length: u32,
    /// Requests the engine works on.
    pub active_jobs: u32,
    /// Decode speed of the last finished answer.
    pub tokens_per_second: f64,
    /// The engine's CPU kernels, e.g. `haswell (AVX2, FMA)`; empty before the first load.
    pub cpu: String,
    /// Process id of the engine, where one runs.
    pub engine_pid: Option<u32>,
    /// How often the engine has died since the daemon started.
    pub engine_crashes: u64,
    /// Whether the service is stopping.
    pub draining: bool,
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting.
    Queued,
    /// The engine works on it.
    Running,
    /// There is a result.
    Done,
    /// It failed; `GetResult` returns the error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl JobState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether its state is final.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// The public view of a job: no text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// Its owner.
    pub uid: u32,
    /// Its submitter's bus name.
    pub sender: String,
    /// Its submitter's systemd unit; empty where not known.
    pub unit: String,
    /// Its class.
    pub priority: Priority,
    /// Its state.
    pub state: JobState,
    /// 0 to 1: tokens generated of those allowed; 1 when over.
    pub progress: f64,
    /// Place in the queue, 0 is next; 0 when not queued.
    pub queue_position: u32,
    /// Tokens generated so far.
    pub tokens_generated: u32,
}

/// Options of one turn of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Options that override those of the session.
    pub options: RequestOptions,
    /// Give up this long after the call.
    pub deadline: Option<Duration>,
}

/// State of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It waits for a turn.
    #[default]
    Idle,
    /// Its owner waits for an answer.
    Answering,
}

impl SessionState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Answering => "answering",
        }
    }
}

/// The public view of a session: no text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// Its owner.
    pub uid: u32,
    /// The bus name that it ends with.
    pub sender: String,
    /// Its state.
    pub state: SessionState,
    /// Answers stored.
    pub turns: u32,
    /// Tokens of the last answer's prompt.
    pub prompt_tokens: u32,
    /// Of these, found in the prompt cache.
    pub cached_tokens: u32,
}
