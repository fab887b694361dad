//! What everyone may see of a job: no text.

use hearth_proto::{Priority, StreamEvent};
use serde::Serialize;

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits in the queue.
    Queued,
    /// It is being worked on.
    Running,
    /// It has a result.
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

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Answers a request.
    Generate,
    /// Loads a model.
    LoadModel,
    /// Copies a model into the store.
    ImportModel,
    /// Measures the speed of a model.
    MeasureModel,
}

impl Operation {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::LoadModel => "load-model",
            Self::ImportModel => "import-model",
            Self::MeasureModel => "measure-model",
        }
    }
}

/// The public view of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// What it does.
    pub operation: Operation,
    /// The model's name.
    pub model: String,
    /// When it was created, in seconds since 1970.
    pub created_unix_s: u64,
    /// Its owner.
    pub uid: u32,
    /// Its submitter's bus name.
    pub sender: String,
    /// Its submitter's systemd unit, where known.
    pub unit: Option<String>,
    /// Its state.
    pub state: JobState,
    /// 0 to 1, and 1 when the job has ended; `None` while it is unknown.
    pub progress: Option<f64>,
    /// What only a request has.
    pub request: Option<RequestView>,
}

/// A request's place in the queue, and what it has generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RequestView {
    /// Its class.
    pub priority: Priority,
    /// Position in the queue, 0 is next; `None` once it has left the queue.
    pub queue_position: Option<u32>,
    /// Tokens generated so far.
    pub tokens_generated: u32,
}

impl JobView {
    /// Shows an event of the request; returns whether that changed anything. `allowed`: the
    /// most tokens that it may generate.
    pub(super) fn follow(&mut self, event: &StreamEvent, allowed: u32) -> bool {
        let Some(request) = &mut self.request else {
            return false;
        };
        match *event {
            StreamEvent::Queued { position } => request.queue_position = Some(position),
            StreamEvent::Started { .. } => {
                request.queue_position = None;
                self.state = JobState::Running;
            }
            StreamEvent::Token { generated, .. } => {
                request.tokens_generated = generated;
                let share = f64::from(generated) / f64::from(allowed.max(1));
                self.progress = Some(share.min(1.0));
            }
            _ => return false,
        }
        true
    }
}
