//! Job objects, `/org/hearthd/Inference1/jobs/<id>`.

use std::slice::from_ref;
use std::time::Duration;

use hearth_api::openai::{chat_response, decode_chat};
use hearth_proto::bus::JOB_INTERFACE;
use hearth_proto::{Answer, Failure, Submission};
use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::{InterfaceRef, ObjectServer, SignalEmitter};
use zbus::{OwnedObjectPath, interface};

use super::callers::{BusCaller, Callers};
use super::changed::{Changed, text};
use super::options::{self, Options};
use super::{Error, PATH, images};
use crate::caller::Principal;
use crate::daemon::Daemon;
use crate::jobs::{JobState, JobView};

/// Progress is published at most this often.
const COALESCE: Duration = Duration::from_millis(250);

/// The interface `org.hearthd.Inference1.Job`. All users of the service can see that a job
/// exists; only its owner and root get its text.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    daemon: Daemon,
    callers: Callers,
    view: watch::Receiver<JobView>,
}

#[interface(name = "org.hearthd.Inference1.Job")]
impl Job {
    /// Cancels the job. No effect if it has ended.
    async fn cancel(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        Ok(self.daemon.jobs.cancel(&peer.caller, self.id)?)
    }

    /// Changes the priority of a queued job: interactive, normal or background.
    async fn set_priority(
        &self,
        priority: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let priority = priority.parse().map_err(Failure::invalid)?;
        let caller = &peer.caller;
        Ok(self.daemon.jobs.set_priority(caller, self.id, priority)?)
    }

    /// Waits for the result and returns it: the response of OpenAI's API as JSON.
    #[zbus(out_args("result"))]
    async fn get_result(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        Ok(self
            .daemon
            .jobs
            .result(peer.caller.principal, self.id)
            .await?)
    }

    /// The job has ended. Sent to its submitter only. If it failed, the result is the message
    /// and `error` the name of the D-Bus error that `GetResult` returns; else it is empty.
    #[zbus(signal)]
    async fn finished(
        emitter: &SignalEmitter<'_>,
        state: &str,
        result: &str,
        error: &str,
    ) -> zbus::Result<()>;

    /// queued, running, done, failed or cancelled.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.view.borrow().state.as_str()
    }

    /// Tokens generated, relative to the maximum; 1 when the job has ended.
    #[zbus(property)]
    fn progress(&self) -> f64 {
        self.view.borrow().progress
    }

    /// Position in the queue; 0 is next.
    #[zbus(property)]
    fn queue_position(&self) -> u32 {
        self.view.borrow().queue_position
    }

    /// Tokens generated so far.
    #[zbus(property)]
    fn tokens_generated(&self) -> u32 {
        self.view.borrow().tokens_generated
    }

    /// User id of the owner.
    #[zbus(property(emits_changed_signal = "const"))]
    fn uid(&self) -> u32 {
        self.view.borrow().uid
    }

    /// Unique bus name of the submitter.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> String {
        self.view.borrow().sender.clone()
    }

    /// systemd unit of the submitter; empty if unknown.
    #[zbus(property(emits_changed_signal = "const"))]
    fn unit(&self) -> String {
        self.view.borrow().unit.clone()
    }

    /// interactive, normal or background.
    #[zbus(property)]
    fn priority(&self) -> &'static str {
        self.view.borrow().priority.as_str()
    }
}

/// The request and the options of a job, and whether it ends when its submitter leaves the bus.
pub(super) async fn decode(
    request: &str,
    options: &Options,
) -> Result<(Submission, bool), Failure> {
    let mut submission = decode_chat(request.as_bytes())?.single()?.submission;
    let ends_with_caller = options::apply(options, &mut submission)?;
    images::attach(options, &mut submission).await?;
    Ok((submission, ends_with_caller))
}

/// The result of a job: a response of OpenAI's API.
pub(super) fn response(answer: &Answer) -> String {
    chat_response(from_ref(answer)).to_string()
}

/// Cancels a job when its submitter leaves the bus.
pub(super) fn end_with_caller(daemon: &Daemon, submitter: BusCaller, id: u64) {
    let Some(mut view) = daemon.jobs.watch(id) else {
        return;
    };
    let daemon = daemon.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = submitter.disconnected() => {
                // The job has ended or was removed: there is nothing to cancel.
                _ = daemon.jobs.cancel(&submitter.caller, id);
            }
            _ = view.wait_for(|view| view.state.is_over()) => {}
        }
    });
}

/// Serves a job's object until the job is removed.
pub(super) async fn serve(
    daemon: &Daemon,
    callers: &Callers,
    server: &ObjectServer,
    connection: &Connection,
    id: u64,
) -> Result<OwnedObjectPath, Error> {
    let gone = || {
        Failure::invalid(format!(
            "job {id} has already been removed: raise `queue.job_keep_s`"
        ))
    };
    let view = daemon.jobs.watch(id).ok_or_else(gone)?;
    let path = OwnedObjectPath::try_from(format!("{PATH}/jobs/{id}"))?;
    let job = Job {
        id,
        daemon: daemon.clone(),
        callers: callers.clone(),
        view: view.clone(),
    };
    server.at(&path, job).await?;
    let interface = server.interface::<_, Job>(&path).await?;
    let (daemon, server) = (daemon.clone(), connection.object_server().clone());
    let at = path.clone();
    tokio::spawn(async move {
        if let Err(error) = publish(&daemon, &interface, view).await {
            log::debug!("cannot publish job {id}: {error}");
        }
        if let Err(error) = server.remove::<Job, _>(&at).await {
            log::debug!("cannot remove job {id}: {error}");
        }
    });
    Ok(path)
}

/// Publishes changes; returns when the job is removed.
async fn publish(
    daemon: &Daemon,
    interface: &InterfaceRef<Job>,
    mut view: watch::Receiver<JobView>,
) -> zbus::Result<()> {
    // The object was served with its current values; only its end must not be missed.
    let mut shown = JobView {
        state: JobState::Queued,
        ..view.borrow_and_update().clone()
    };
    loop {
        let now = view.borrow_and_update().clone();
        let to = interface.signal_emitter();
        changed(&shown, &now).emit(to, JOB_INTERFACE).await?;
        if shown.state != now.state && now.state.is_over() {
            finished(daemon, to, &now).await?;
        }
        shown = now;
        if !shown.state.is_over() {
            tokio::time::sleep(COALESCE).await;
        }
        if view.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn changed(old: &JobView, new: &JobView) -> Changed {
    let mut changed = Changed::default();
    for (name, old, new) in [
        ("QueuePosition", old.queue_position, new.queue_position),
        (
            "TokensGenerated",
            old.tokens_generated,
            new.tokens_generated,
        ),
    ] {
        changed.add(name, (&old, &new), |value| (*value).into());
    }
    changed.add("Progress", (&old.progress, &new.progress), |p| (*p).into());
    let priorities = (&old.priority, &new.priority);
    changed.add("Priority", priorities, |priority| text(priority.as_str()));
    changed.add("State", (&old.state, &new.state), |state| {
        text(state.as_str())
    });
    changed
}

/// Emits `Finished` to the submitter only, since it contains the answer.
async fn finished(
    daemon: &Daemon,
    emitter: &SignalEmitter<'_>,
    view: &JobView,
) -> zbus::Result<()> {
    let owner = Principal::Uid(view.uid);
    let (result, error) = match daemon.jobs.result(owner, view.id).await {
        Ok(result) => (result, ""),
        Err(failure) => (failure.message, failure.kind.names().bus),
    };
    let mut to = emitter.to_owned();
    if let Ok(name) = BusName::try_from(view.sender.clone()) {
        to = to.set_destination(name);
    }
    Job::finished(&to, view.state.as_str(), &result, error).await
}
