//! Job objects, `/org/hearthd/Inference1/jobs/<id>`.

use std::slice::from_ref;
use std::time::Duration;

use hearth_api::openai::{chat_response, decode_chat};
use hearth_proto::bus::JOB_INTERFACE;
use hearth_proto::{Answer, Failure, Submission};
use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::{InterfaceRef, ObjectServer, SignalEmitter};
use zbus::{OwnedObjectPath, fdo, interface};

use super::callers::{BusCaller, Callers, to_caller};
use super::changed::{Changed, present, text};
use super::options::{self, Options};
use super::{Error, PATH, images};
use crate::caller::Principal;
use crate::daemon::Daemon;
use crate::jobs::{JobState, JobView};

/// Progress is published at most this often.
const COALESCE: Duration = Duration::from_millis(250);

/// Why a property of requests is absent.
const NO_REQUEST: &str = "the job is no request";

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

    /// Changes the priority of a queued request: interactive, normal or background.
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

    /// Waits for the result and returns it as JSON: for `generate` the response of OpenAI's
    /// API, for `measure-model` the measurement as in `Tuning.List`, else an object with
    /// `model`.
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

    /// What it does: generate, load-model, import-model or measure-model.
    #[zbus(property(emits_changed_signal = "const"))]
    fn operation(&self) -> &'static str {
        self.view.borrow().operation.as_str()
    }

    /// The model's name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn model(&self) -> String {
        self.view.borrow().model.clone()
    }

    /// When it was created, in seconds since 1970.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created(&self) -> u64 {
        self.view.borrow().created_unix_s
    }

    /// How much of it is done, from 0 to 1: of an answer's tokens relative to the maximum; 1
    /// when the job has ended. Absent while that is not known.
    #[zbus(property)]
    fn progress(&self) -> fdo::Result<f64> {
        present(self.view.borrow().progress, "the progress is not known")
    }

    /// Position in the queue; 0 is next. Absent if it is not queued.
    #[zbus(property)]
    fn queue_position(&self) -> fdo::Result<u32> {
        let position = self.view.borrow().request.and_then(|r| r.queue_position);
        present(position, "the job is not queued")
    }

    /// Tokens generated so far. Absent if it is no request.
    #[zbus(property)]
    fn tokens_generated(&self) -> fdo::Result<u32> {
        let request = self.view.borrow().request;
        present(request.map(|r| r.tokens_generated), NO_REQUEST)
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

    /// systemd unit of the submitter. Absent if it is not known.
    #[zbus(property(emits_changed_signal = "const"))]
    fn unit(&self) -> fdo::Result<String> {
        present(self.view.borrow().unit.clone(), "the unit is not known")
    }

    /// interactive, normal or background. Absent if it is no request.
    #[zbus(property)]
    fn priority(&self) -> fdo::Result<&'static str> {
        let request = self.view.borrow().request;
        present(request.map(|r| r.priority.as_str()), NO_REQUEST)
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

/// Serves the object of a job that was started, and cancels it with its caller if that is
/// wanted.
pub(super) async fn serve_started(
    daemon: &Daemon,
    callers: &Callers,
    connection: &Connection,
    peer: BusCaller,
    ends_with_caller: bool,
    id: u64,
) -> Result<OwnedObjectPath, Error> {
    if ends_with_caller {
        end_with_caller(daemon, peer, id);
    }
    let server = connection.object_server();
    serve(daemon, callers, server, connection, id).await
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
    // What its properties are when it is added is what clients know of it.
    let served = view.borrow().clone();
    server.at(&path, job).await?;
    let interface = server.interface::<_, Job>(&path).await?;
    let (daemon, server) = (daemon.clone(), connection.object_server().clone());
    let at = path.clone();
    tokio::spawn(async move {
        if let Err(error) = publish(&daemon, &interface, served, view).await {
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
    served: JobView,
    mut view: watch::Receiver<JobView>,
) -> zbus::Result<()> {
    // Its end must not be missed, even if it had ended by then.
    let mut shown = JobView {
        state: JobState::Queued,
        ..served
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
    let positions = [old, new].map(|view| view.request.and_then(|r| r.queue_position));
    let generated = [old, new].map(|view| view.request.map(|r| r.tokens_generated));
    for (name, [old, new]) in [("QueuePosition", positions), ("TokensGenerated", generated)] {
        changed.add_optional(name, (&old, &new), |value| (*value).into());
    }
    let progress = (&old.progress, &new.progress);
    changed.add_optional("Progress", progress, |share| (*share).into());
    let [was, is] = [old, new].map(|view| view.request.map(|r| r.priority));
    changed.add_optional("Priority", (&was, &is), |priority| text(priority.as_str()));
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
    let to = to_caller(emitter.to_owned(), &view.sender);
    Job::finished(&to, view.state.as_str(), &result, error).await
}
