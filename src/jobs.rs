//! Jobs: requests whose result is stored for their owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Answer, Failure, FailureKind, Priority, RequestId, StreamEvent, Submission};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::caller::{Caller, Principal};
use crate::config::ConfigReader;
use crate::dispatch::{Dispatcher, Stream};

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits in the queue.
    Queued,
    /// The engine processes it.
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

/// The public view of a job: no text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// Its owner.
    pub uid: u32,
    /// Its submitter's bus name.
    pub sender: String,
    /// Its submitter's systemd unit; empty if unknown.
    pub unit: String,
    /// Its class.
    pub priority: Priority,
    /// Its state.
    pub state: JobState,
    /// 0 to 1: tokens generated, relative to the maximum; 1 when the job has ended.
    pub progress: f64,
    /// Position in the queue, 0 is next; 0 if not queued.
    pub queue_position: u32,
    /// Tokens generated so far.
    pub tokens_generated: u32,
}

/// Handle on all stored jobs; clones share everything.
#[derive(Clone, Debug)]
pub struct Jobs {
    config: ConfigReader,
    dispatcher: Dispatcher,
    jobs: Arc<Mutex<BTreeMap<u64, Job>>>,
}

#[derive(Debug)]
struct Job {
    request: RequestId,
    view: watch::Sender<JobView>,
    result: Option<Result<String, Failure>>,
}

impl Jobs {
    /// No jobs yet.
    pub fn new(config: ConfigReader, dispatcher: Dispatcher) -> Self {
        Self {
            config,
            dispatcher,
            jobs: Arc::default(),
        }
    }

    /// Enqueues a request as a job that outlives its sender. `encode` turns the answer into
    /// the job's result (the OpenAI response JSON).
    ///
    /// # Errors
    /// As [`Dispatcher::submit`].
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<u64, Failure> {
        let id = self.start(caller, submission, None, encode).await?;
        Ok(id.number())
    }

    /// As [`Self::submit`], with a copy of all events.
    ///
    /// # Errors
    /// As [`Dispatcher::submit`].
    pub async fn submit_streamed(
        &self,
        caller: &Caller,
        submission: Submission,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<(RequestId, mpsc::UnboundedReceiver<StreamEvent>), Failure> {
        let (copy, events) = mpsc::unbounded_channel();
        let id = self.start(caller, submission, Some(copy), encode).await?;
        Ok((id, events))
    }

    async fn start(
        &self,
        caller: &Caller,
        submission: Submission,
        copy: Option<mpsc::UnboundedSender<StreamEvent>>,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<RequestId, Failure> {
        let allowed = submission
            .request
            .max_tokens
            .unwrap_or(self.config.get().sampling.max_tokens);
        let priority = submission.request.priority;
        let stream = self.dispatcher.submit(caller, submission).await?;
        let request = stream.id();
        let id = request.number();
        let view = JobView {
            id,
            uid: caller.principal.uid(),
            sender: caller.origin.to_string(),
            unit: caller.unit.clone().unwrap_or_default(),
            priority,
            state: JobState::Queued,
            progress: 0.0,
            queue_position: 0,
            tokens_generated: 0,
        };
        let job = Job {
            request,
            view: watch::Sender::new(view),
            result: None,
        };
        self.jobs.lock().insert(id, job);
        let jobs = self.clone();
        tokio::spawn(async move { jobs.follow(id, stream, allowed, copy, encode).await });
        Ok(request)
    }

    async fn follow(
        &self,
        id: u64,
        mut stream: Stream,
        allowed: u32,
        copy: Option<mpsc::UnboundedSender<StreamEvent>>,
        encode: impl FnOnce(&Answer) -> String,
    ) {
        let mut answer = stream.answer();
        let result = loop {
            let Some(event) = stream.next().await else {
                break Err(Failure::cancelled());
            };
            if let Some(copy) = &copy {
                // The receiver of the copy may be dropped already; that cancels the job.
                _ = copy.send(event.clone());
            }
            match event {
                StreamEvent::Queued { position } => {
                    self.change(id, |job| job.queue_position = position);
                }
                StreamEvent::Started { .. } => self.change(id, |job| {
                    job.state = JobState::Running;
                    job.queue_position = 0;
                }),
                StreamEvent::Token { generated, .. } => self.change(id, |job| {
                    job.tokens_generated = generated;
                    job.progress = (f64::from(generated) / f64::from(allowed.max(1))).min(1.0);
                }),
                _ => {}
            }
            match answer.add(event) {
                Ok(false) => {}
                Ok(true) => break Ok(encode(&answer)),
                Err(failure) => break Err(failure),
            }
        };
        drop(copy);
        let state = match &result {
            Ok(_) => JobState::Done,
            Err(failure) if failure.kind == FailureKind::Cancelled => JobState::Cancelled,
            Err(_) => JobState::Failed,
        };
        if let Some(job) = self.jobs.lock().get_mut(&id) {
            job.result = Some(result);
        }
        self.change(id, |job| {
            job.state = state;
            job.progress = 1.0;
        });
        let stored_s = u64::from(self.config.get().queue.job_keep_s);
        tokio::time::sleep(Duration::from_secs(stored_s)).await;
        self.jobs.lock().remove(&id);
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut JobView)) {
        if let Some(job) = self.jobs.lock().get(&id) {
            job.view.send_modify(change);
        }
    }

    /// All jobs, oldest first.
    pub fn list(&self) -> Vec<JobView> {
        let jobs = self.jobs.lock();
        jobs.values().map(|job| job.view.borrow().clone()).collect()
    }

    /// One job's state and every change; closed when the job is removed.
    pub fn watch(&self, id: u64) -> Option<watch::Receiver<JobView>> {
        Some(self.jobs.lock().get(&id)?.view.subscribe())
    }

    /// Waits for a job's result.
    ///
    /// # Errors
    /// `AccessDenied` for anyone but its owner and root, `InvalidArgs` for an
    /// unknown job, else the failure that ended it.
    pub async fn result(&self, user: Principal, id: u64) -> Result<String, Failure> {
        let mut view = self.own(user, id)?;
        _ = view.wait_for(|job| job.state.is_over()).await;
        let jobs = self.jobs.lock();
        let job = jobs.get(&id).ok_or_else(|| unknown(id))?;
        job.result.clone().unwrap_or_else(|| Err(unknown(id)))
    }

    /// Cancels a job; no effect on one that has ended.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above.
    pub fn cancel(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        self.own(caller.principal, id)?;
        if let Some(request) = self.request(id) {
            self.dispatcher.cancel(request, Failure::cancelled());
        }
        Ok(())
    }

    /// Changes the class of a job that is still queued.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above, also if it is no longer queued.
    pub fn set_priority(
        &self,
        caller: &Caller,
        id: u64,
        priority: Priority,
    ) -> Result<(), Failure> {
        let state = self.own(caller.principal, id)?.borrow().state;
        let request = self.request(id);
        if !request.is_some_and(|request| self.dispatcher.set_priority(request, priority)) {
            return Err(Failure::invalid(format!(
                "job {id} is {}: its priority can only be changed while it is queued",
                // Sent to the engine, which has not reported it yet.
                match state {
                    JobState::Queued => JobState::Running,
                    state => state,
                }
                .as_str()
            )));
        }
        self.change(id, |view| view.priority = priority);
        Ok(())
    }

    fn request(&self, id: u64) -> Option<RequestId> {
        Some(self.jobs.lock().get(&id)?.request)
    }

    fn own(&self, user: Principal, id: u64) -> Result<watch::Receiver<JobView>, Failure> {
        let view = self.watch(id).ok_or_else(|| unknown(id))?;
        let owner = view.borrow().uid;
        if user.may_use(owner) {
            return Ok(view);
        }
        Err(Failure::new(
            FailureKind::AccessDenied,
            format!("job {id} belongs to uid {owner}: only that user and root may do this"),
        ))
    }
}

fn unknown(id: u64) -> Failure {
    Failure::invalid(format!(
        "there is no job {id}: results are stored for `queue.job_keep_s` seconds"
    ))
}
