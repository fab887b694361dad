//! What the fronts and the service say to each other.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::keep_alive::Keep;
use crate::protocol::{
    AnswerPart, Constraint, Failure, FailureKind, FinishReason, GenerateRequest, ModelKind,
    Priority, Prompt, RequestId, TokenLogprob, ToolCall, Usage,
};

/// Who asks: decides what they may do and what is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id, from the bus or from `SO_PEERCRED`.
    pub uid: u32,
    /// The unique bus name, or `http:<pid>`; for the journal and the job list.
    pub sender: String,
    /// How long the model is to stay afterwards; `None`: as configured.
    pub keep: Option<Keep>,
    /// The systemd unit that it runs in, where known; for the journal and the job list.
    pub unit: Option<String>,
}

/// Whether a caller may manage models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// An authority was asked, and has allowed it.
    Granted,
    /// There is nobody to ask: what the configuration says holds.
    ByRule,
}

/// One request, decoded by a front and not yet admitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The request; the service sets `id`, `uid` and a seed where there is none.
    pub request: GenerateRequest,
    /// Model by name; `None` takes the loaded or default one.
    pub model: Option<String>,
    /// Give up this long after submission.
    pub deadline: Option<Duration>,
    /// What a base model continues instead of the prompt: it has no chat template.
    pub base_text: Option<String>,
}

impl Submission {
    /// A request with nothing set but its prompt.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            request: GenerateRequest {
                prompt,
                ..GenerateRequest::default()
            },
            ..Self::default()
        }
    }
}

/// What happens to a request, in this order: any `Queued`, then `Started`, any
/// `Prefill`, any `Token`, and exactly one `Finished` or `Failed`, the last.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Waiting behind this many others.
    Queued {
        /// 0 is next.
        position: u32,
    },
    /// The engine took it.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Of these, found in the prompt cache.
        cached_tokens: u32,
    },
    /// Prompt tokens done so far.
    Prefill {
        /// Of `prompt_tokens`.
        done: u32,
    },
    /// More of the answer.
    Token {
        /// What is certain by now; may be empty.
        parts: Vec<AnswerPart>,
        /// Tokens generated so far.
        generated: u32,
        /// Where asked for: the tokens with their probabilities.
        logprobs: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// There will be no (complete) answer.
    Failed(Failure),
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request that it answers.
    pub id: RequestId,
    /// The text.
    pub content: String,
    /// What the model thought before.
    pub reasoning: String,
    /// What it calls.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub reason: FinishReason,
    /// What it cost.
    pub usage: Usage,
    /// The model that gave it.
    pub model: String,
    /// Whether probabilities were asked for: an answer without tokens has none all the same.
    pub wants_logprobs: bool,
    /// Where asked for: the tokens with their probabilities.
    pub logprobs: Vec<TokenLogprob>,
}

impl Answer {
    /// An answer that has not begun.
    pub(super) fn new(id: RequestId, model: &str) -> Self {
        Self {
            id,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            reason: FinishReason::Stop,
            usage: Usage::default(),
            model: model.to_owned(),
            wants_logprobs: false,
            logprobs: Vec::new(),
        }
    }

    /// The answer, where a constraint was to give it its form.
    ///
    /// # Errors
    /// `ContextTooLong` where it was cut off.
    pub fn whole_json(self) -> Result<Self, Failure> {
        match self.reason {
            FinishReason::Stop => Ok(self),
            FinishReason::Length => Err(Failure::new(
                FailureKind::ContextTooLong,
                format!(
                    "the JSON was not complete after {} tokens; bound it in the schema \
                     (`maxLength`, `maxItems`), or raise `sampling.max_tokens` or \
                     `model.context`",
                    self.usage.completion_tokens
                ),
            )),
        }
    }

    fn push(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Content(more) => self.content.push_str(&more),
            AnswerPart::Reasoning(more) => self.reasoning.push_str(&more),
            AnswerPart::ToolCall(call) => self.calls.push(call),
        }
    }

    /// Adds what happened; true where the answer is complete with it.
    pub(super) fn add(&mut self, event: StreamEvent) -> Result<bool, Failure> {
        match event {
            StreamEvent::Queued { .. }
            | StreamEvent::Started { .. }
            | StreamEvent::Prefill { .. } => {}
            StreamEvent::Token {
                parts, logprobs, ..
            } => {
                for part in parts {
                    self.push(part);
                }
                self.logprobs.extend(logprobs);
            }
            StreamEvent::Finished { reason, usage } => {
                self.reason = reason;
                self.usage = usage;
                return Ok(true);
            }
            StreamEvent::Failed(failure) => return Err(failure),
        }
        Ok(false)
    }
}

/// The events of one admitted request. Dropping it cancels the request.
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

    /// Its answer, which has not begun.
    pub(super) fn answer(&self) -> Answer {
        Answer {
            wants_logprobs: self.wants_logprobs,
            ..Answer::new(self.id, &self.model)
        }
    }

    /// Waits for the whole answer.
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

/// The daemon's state in one word, as the bus property `State` says it.
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

/// Everything that the bus properties, `/health` and the metrics show. One value,
/// so that all of them say the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// One word.
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
    /// How often the engine died since the daemon started.
    pub engine_crashes: u64,
    /// Whether the service is stopping.
    pub draining: bool,
}

/// Where a job stands.
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

    /// Whether nothing more will happen to it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What everyone may see of a job: no text.
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
    /// Where it stands.
    pub state: JobState,
    /// 0 to 1: tokens generated of those allowed; 1 when over.
    pub progress: f64,
    /// Place in the queue, 0 is next; 0 when not queued.
    pub queue_position: u32,
    /// Tokens generated so far.
    pub tokens_generated: u32,
}

/// What holds for one turn of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Fields of an `OpenAI` request, before those of the session.
    pub fields: Map<String, Value>,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// Give up this long after the call.
    pub deadline: Option<Duration>,
}

/// Whether a session answers.
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

/// What everyone may see of a session: no text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// Its owner.
    pub uid: u32,
    /// The bus name that it ends with.
    pub sender: String,
    /// Whether it answers.
    pub state: SessionState,
    /// Answers kept.
    pub turns: u32,
    /// Tokens of the last answer's prompt.
    pub prompt_tokens: u32,
    /// Of these, found in the prompt cache.
    pub cached_tokens: u32,
}

/// A model that could be loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelEntry {
    /// File name without `.gguf`.
    pub name: String,
    /// File size.
    pub size_bytes: u64,
    /// `llama`, `qwen2` …; empty where the header could not be read.
    pub architecture: String,
    /// `Q8_0` …; empty where unknown.
    pub quantization: String,
    /// Context it was trained for; 0 where unknown.
    pub context_train: u32,
    /// Parameters; 0 where unknown.
    pub parameters: u64,
    /// What it is for, by its header; of the loaded one, by llama.cpp. `None` where the
    /// header could not be read.
    pub kind: Option<ModelKind>,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// Whether it is the one used where a request names none.
    pub is_default: bool,
    /// Whether it came with a package and cannot be removed.
    pub packaged: bool,
    /// Seconds since 1970 of the file's last change.
    pub modified_s: u64,
    /// Why it cannot be used; empty where nothing is known against it.
    pub problem: String,
}
