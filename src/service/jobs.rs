//! Jobs: requests whose result is stored for their owner.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Service;
use super::types::{Answer, Caller, JobState, JobView, Stream, StreamEvent, Submission};
use crate::protocol::{Failure, FailureKind, Priority, RequestId};

/// All jobs not forgotten yet.
#[derive(Debug, Default)]
pub(super) struct Jobs(BTreeMap<u64, Job>);

#[derive(Debug)]
struct Job {
    view: watch::Sender<JobView>,
    result: Option<Result<String, Failure>>,
}

impl Service {
    /// Enqueues a request as a job that outlives its sender. `encode` turns the answer into
    /// the job's result (the OpenAI response JSON).
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_job(
        &self,
        caller: &Caller,
        submission: Submission,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<u64, Failure> {
        self.start_job(caller, submission, None, encode)
    }

    /// As [`Self::submit_job`], with a copy of all events.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_streamed_job(
        &self,
        caller: &Caller,
        submission: Submission,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<(u64, mpsc::UnboundedReceiver<StreamEvent>), Failure> {
        let (copy, events) = mpsc::unbounded_channel();
        Ok((
            self.start_job(caller, submission, Some(copy), encode)?,
            events,
        ))
    }

    fn start_job(
        &self,
        caller: &Caller,
        submission: Submission,
        copy: Option<mpsc::UnboundedSender<StreamEvent>>,
        encode: impl FnOnce(&Answer) -> String + Send + 'static,
    ) -> Result<u64, Failure> {
        let allowed = submission
            .request
            .max_tokens
            .unwrap_or(self.config().sampling.max_tokens);
        let priority = submission.request.priority;
        let stream = self.submit(caller, submission)?;
        let id = stream.id().0;
        let view = JobView {
            id,
            uid: caller.uid,
            sender: caller.sender.clone(),
            unit: caller.unit.clone().unwrap_or_default(),
            priority,
            state: JobState::Queued,
            progress: 0.0,
            queue_position: 0,
            tokens_generated: 0,
        };
        let job = Job {
            view: watch::Sender::new(view),
            result: None,
        };
        self.lock().jobs.0.insert(id, job);
        let service = self.clone();
        tokio::spawn(async move { service.follow(id, stream, allowed, copy, encode).await });
        Ok(id)
    }

    async fn follow(
        &self,
        id: u64,
        mut stream: Stream,
        allowed: u32,
        copy: Option<mpsc::UnboundedSender<StreamEvent>>,
        encode: impl FnOnce(&Answer) -> String,
    ) {
        let mut answer = Answer {
            id: RequestId(id),
            ..stream.answer()
        };
        let result = loop {
            let Some(event) = stream.next().await else {
                break Err(Failure::cancelled());
            };
            if let Some(copy) = &copy {
                // The reader of the copy may be gone, which cancels the job.
                _ = copy.send(event.clone());
            }
            match event {
                StreamEvent::Queued { position } => {
                    self.change_job(id, |job| job.queue_position = position);
                }
                StreamEvent::Started { .. } => self.change_job(id, |job| {
                    job.state = JobState::Running;
                    job.queue_position = 0;
                }),
                StreamEvent::Token { generated, .. } => self.change_job(id, |job| {
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
        if let Some(job) = self.lock().jobs.0.get_mut(&id) {
            job.result = Some(result);
        }
        self.change_job(id, |job| {
            job.state = state;
            job.progress = 1.0;
        });
        let keep = u64::from(self.config().queue.job_keep_s);
        tokio::time::sleep(Duration::from_secs(keep)).await;
        self.lock().jobs.0.remove(&id);
    }

    fn change_job(&self, id: u64, change: impl FnOnce(&mut JobView)) {
        if let Some(job) = self.lock().jobs.0.get(&id) {
            job.view.send_modify(change);
        }
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<JobView> {
        self.lock()
            .jobs
            .0
            .values()
            .map(|job| job.view.borrow().clone())
            .collect()
    }

    /// One job's state and every change; closed when the job is forgotten.
    pub fn watch_job(&self, id: u64) -> Option<watch::Receiver<JobView>> {
        Some(self.lock().jobs.0.get(&id)?.view.subscribe())
    }

    /// Waits for a job's result.
    ///
    /// # Errors
    /// `AccessDenied` for anyone but its owner and root, `InvalidArgs` for an
    /// unknown job, else the failure that ended it.
    pub async fn job_result(&self, caller: &Caller, id: u64) -> Result<String, Failure> {
        let mut view = self.own_job(caller, id)?;
        _ = view.wait_for(|job| job.state.is_over()).await;
        let inner = self.lock();
        let job = inner.jobs.0.get(&id).ok_or_else(|| unknown(id))?;
        job.result.clone().unwrap_or_else(|| Err(unknown(id)))
    }

    /// Cancels a job; no effect on one that is over.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above.
    pub fn cancel_job(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        self.own_job(caller, id)?;
        self.cancel(RequestId(id), Failure::cancelled());
        Ok(())
    }

    /// Changes the class of a job that is still queued.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above, also if it is no longer queued.
    pub fn set_job_priority(
        &self,
        caller: &Caller,
        id: u64,
        priority: Priority,
    ) -> Result<(), Failure> {
        let state = self.own_job(caller, id)?.borrow().state;
        let mut inner = self.lock();
        if !inner.set_priority(RequestId(id), priority) {
            return Err(Failure::invalid(format!(
                "job {id} is {}: its priority can be changed while it is queued only",
                // Sent to the engine, which has not reported it yet.
                match state {
                    JobState::Queued => JobState::Running,
                    state => state,
                }
                .as_str()
            )));
        }
        if let Some(job) = inner.jobs.0.get(&id) {
            job.view.send_modify(|view| view.priority = priority);
        }
        self.pump(&mut inner);
        Ok(())
    }

    fn own_job(&self, caller: &Caller, id: u64) -> Result<watch::Receiver<JobView>, Failure> {
        let view = self.watch_job(id).ok_or_else(|| unknown(id))?;
        let owner = view.borrow().uid;
        if caller.uid == owner || caller.uid == 0 {
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
        "there is no job {id}: results are kept for `queue.job_keep_s` seconds only"
    ))
}
