//! Jobs: work that outlives the call that started it, and whose result is stored for its owner.

mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Answer, Failure, FailureKind, Priority, RequestId, StreamEvent, Submission};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

pub use self::view::{JobState, JobView, Operation, RequestView};
use crate::caller::{Caller, Principal};
use crate::clock::unix_seconds;
use crate::config::ConfigReader;
use crate::dispatch::{Dispatcher, Stream};

/// The most jobs of one user that have ended and are kept; older ones are removed before their
/// time.
const ENDED_PER_USER_MAX: usize = 256;
/// The most loads, imports and measurements of one user at once.
const TASKS_PER_USER_MAX: usize = 16;

/// Handle on all stored jobs; clones share everything.
#[derive(Clone, Debug)]
pub struct Jobs {
    config: ConfigReader,
    dispatcher: Dispatcher,
    jobs: Arc<Mutex<BTreeMap<u64, Job>>>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    view: watch::Sender<JobView>,
    result: Option<Result<String, Failure>>,
}

/// How a job is cancelled.
#[derive(Clone, Debug)]
enum Work {
    /// In the queue and by the engine.
    Request(RequestId),
    /// By dropping the future, which this asks for.
    Task(Arc<Notify>),
}

/// Reports how far a job is that is no request.
#[derive(Debug)]
pub struct Progress {
    jobs: Jobs,
    id: u64,
}

impl Progress {
    /// Sets the progress, 0 to 1.
    pub fn report(&self, share: f64) {
        self.jobs
            .change(self.id, |view| view.progress = Some(share));
    }
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
        let id = self.enqueue(caller, submission, None, encode).await?;
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
        let id = self.enqueue(caller, submission, Some(copy), encode).await?;
        Ok((id, events))
    }

    async fn enqueue(
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
            state: JobState::Queued,
            progress: Some(0.0),
            request: Some(RequestView {
                priority,
                queue_position: None,
                tokens_generated: 0,
            }),
            ..view(id, caller, Operation::Generate, stream.model())
        };
        self.add(view, Work::Request(request));
        let jobs = self.clone();
        tokio::spawn(async move { jobs.follow(id, stream, allowed, copy, encode).await });
        Ok(request)
    }

    async fn follow(
        &self,
        id: u64,
        stream: Stream,
        allowed: u32,
        copy: Option<mpsc::UnboundedSender<StreamEvent>>,
        encode: impl FnOnce(&Answer) -> String,
    ) {
        let answered = stream.collect_with(|event| {
            if let Some(copy) = &copy {
                // The receiver of the copy may be dropped already; that cancels the job.
                _ = copy.send(event.clone());
            }
            if let Some(job) = self.jobs.lock().get(&id) {
                job.view
                    .send_if_modified(|view| view.follow(event, allowed));
            }
        });
        let result = answered.await.map(|answer| encode(&answer));
        drop(copy);
        self.end(id, result).await;
    }

    /// Starts other work as a job, and returns its number; `work` gets what it reports its
    /// progress with. A job that is cancelled drops it.
    ///
    /// # Errors
    /// `QuotaExceeded` where too many of this user's run.
    pub fn start<F>(
        &self,
        caller: &Caller,
        operation: Operation,
        model: &str,
        work: impl FnOnce(Progress) -> F,
    ) -> Result<u64, Failure>
    where
        F: Future<Output = Result<String, Failure>> + Send + 'static,
    {
        self.check_tasks(caller.principal.uid())?;
        let id = self.dispatcher.new_id().number();
        let cancelled = Arc::new(Notify::new());
        let view = view(id, caller, operation, model);
        self.add(view, Work::Task(Arc::clone(&cancelled)));
        let jobs = self.clone();
        let work = work(Progress {
            jobs: self.clone(),
            id,
        });
        tokio::spawn(async move {
            let result = tokio::select! {
                result = work => result,
                () = cancelled.notified() => Err(Failure::cancelled()),
            };
            jobs.end(id, result).await;
        });
        Ok(id)
    }

    /// Refuses more work of a user that is no request; the queue bounds the requests.
    fn check_tasks(&self, uid: u32) -> Result<(), Failure> {
        let jobs = self.jobs.lock();
        let tasks = jobs.values().filter(|job| {
            let view = job.view.borrow();
            matches!(job.work, Work::Task(_)) && view.uid == uid && !view.state.is_over()
        });
        if tasks.count() < TASKS_PER_USER_MAX {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::QuotaExceeded,
            format!(
                "{TASKS_PER_USER_MAX} loads, imports and measurements of uid {uid} run: wait for one, or cancel it"
            ),
        ))
    }

    fn add(&self, view: JobView, work: Work) {
        let id = view.id;
        let uid = view.uid;
        let job = Job {
            work,
            view: watch::Sender::new(view),
            result: None,
        };
        let mut jobs = self.jobs.lock();
        let ended = jobs.iter().filter(|(_, job)| {
            let view = job.view.borrow();
            view.uid == uid && view.state.is_over()
        });
        let ended: Vec<u64> = ended.map(|(id, _)| *id).collect();
        let excess = ended.len().saturating_sub(ENDED_PER_USER_MAX - 1);
        for old in &ended[..excess] {
            jobs.remove(old);
        }
        jobs.insert(id, job);
    }

    /// Stores a job's result, and removes the job after a while.
    async fn end(&self, id: u64, result: Result<String, Failure>) {
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
            job.progress = Some(1.0);
            if let Some(request) = &mut job.request {
                request.queue_position = None;
            }
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
        match self.work(id) {
            Some(Work::Request(request)) => self.dispatcher.cancel(request, Failure::cancelled()),
            Some(Work::Task(cancelled)) => cancelled.notify_one(),
            None => {}
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
        let Some(Work::Request(request)) = self.work(id) else {
            return Err(Failure::invalid(format!(
                "job {id} is not queued: only requests have a priority"
            )));
        };
        if !self.dispatcher.set_priority(request, priority) {
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
        self.change(id, |view| {
            if let Some(request) = &mut view.request {
                request.priority = priority;
            }
        });
        Ok(())
    }

    fn work(&self, id: u64) -> Option<Work> {
        Some(self.jobs.lock().get(&id)?.work.clone())
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

fn view(id: u64, caller: &Caller, operation: Operation, model: &str) -> JobView {
    JobView {
        id,
        operation,
        model: model.to_owned(),
        created_unix_s: unix_seconds(),
        uid: caller.principal.uid(),
        sender: caller.origin.to_string(),
        unit: caller.unit.clone(),
        state: JobState::Running,
        progress: None,
        request: None,
    }
}
