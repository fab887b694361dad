//! Session objects, `/org/hearthd/Inference1/sessions/<id>`.

use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::InterfaceRef;
use zbus::{OwnedObjectPath, interface};

use super::callers::{Callers, Present};
use super::options::{self, Options};
use super::{Error, PATH};
use crate::daemon::Daemon;
use crate::sessions::SessionView;
use hearth_proto::Failure;

/// The interface `org.hearthd.Inference1.Session`: for its owner's user and root; others
/// see only that it exists.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    daemon: Daemon,
    callers: Callers,
    view: watch::Receiver<SessionView>,
}

#[interface(name = "org.hearthd.Inference1.Session")]
impl Session {
    /// Adds to what the user says next, without an answer: the text of the next
    /// `Generate` follows it in the same turn.
    async fn append(
        &self,
        text: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        let caller = &present.caller;
        Ok(self.daemon.sessions.append(caller, self.id, &text)?)
    }

    /// Adds the user's turn, answers, and keeps the answer as the next turn; an empty
    /// text asks for an answer to what was appended. Where it fails or is cancelled, the
    /// session stays as it was. One answer at a time: another call meanwhile fails with
    /// Busy. Options: those of `OpenSession` but for `system` and `model`, for this turn
    /// alone; `json_schema` (s) has it answered in JSON that is valid against the schema
    /// (empty: any object); `deadline_ms` (t or u) gives up after so long.
    #[zbus(out_args("text"))]
    async fn generate(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let turn = options::session_turn(&options)?;
        let (sessions, caller) = (&self.daemon.sessions, &present.caller);
        tokio::select! {
            answer = sessions.answer(caller, self.id, &text, turn) => Ok(answer?),
            () = present.left() => Err(Failure::cancelled().into()),
        }
    }

    /// A session of the caller's own that begins with what was said here.
    #[zbus(out_args("session"))]
    async fn clone(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let id = self
            .daemon
            .sessions
            .clone_session(&present.caller, self.id)?;
        serve(&self.daemon, &self.callers, connection, present, id).await
    }

    /// Forgets the conversation; an answer that is under way is cancelled.
    async fn close(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        Ok(self.daemon.sessions.close(&present.caller, self.id)?)
    }

    /// idle or answering.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.view.borrow().state.as_str()
    }

    /// Answers kept.
    #[zbus(property)]
    fn turns(&self) -> u32 {
        self.view.borrow().turns
    }

    /// Tokens of the last answer's prompt.
    #[zbus(property)]
    fn prompt_tokens(&self) -> u32 {
        self.view.borrow().prompt_tokens
    }

    /// Of these, found in the prompt cache.
    #[zbus(property)]
    fn cached_tokens(&self) -> u32 {
        self.view.borrow().cached_tokens
    }

    /// The owner.
    #[zbus(property(emits_changed_signal = "const"))]
    fn uid(&self) -> u32 {
        self.view.borrow().uid
    }

    /// The bus name that the session ends with.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> String {
        self.view.borrow().sender.clone()
    }
}

/// Serves a session's object until it is closed, or its owner leaves the bus.
pub(super) async fn serve(
    daemon: &Daemon,
    callers: &Callers,
    connection: &Connection,
    owner: Present,
    id: u64,
) -> Result<OwnedObjectPath, Error> {
    let gone = || Failure::invalid(format!("session {id} was closed already"));
    let view = daemon.sessions.watch(id).ok_or_else(gone)?;
    let path = OwnedObjectPath::try_from(format!("{PATH}/sessions/{id}"))?;
    let session = Session {
        id,
        daemon: daemon.clone(),
        callers: callers.clone(),
        view: view.clone(),
    };
    let server = connection.object_server().clone();
    server.at(&path, session).await?;
    let interface = server.interface::<_, Session>(&path).await?;
    let (daemon, at) = (daemon.clone(), path.clone());
    tokio::spawn(async move {
        tokio::select! {
            published = publish(&interface, view) => {
                if let Err(error) = published {
                    log::debug!("cannot publish session {id}: {error}");
                }
            }
            () = owner.left() => {}
        }
        // It is already closed if that is why publishing ended.
        _ = daemon.sessions.close(&owner.caller, id);
        if let Err(error) = server.remove::<Session, _>(&at).await {
            log::debug!("cannot remove session {id}: {error}");
        }
    });
    Ok(path)
}

/// Publishes changes; returns when the session is closed.
async fn publish(
    interface: &InterfaceRef<Session>,
    mut view: watch::Receiver<SessionView>,
) -> zbus::Result<()> {
    let mut shown = view.borrow_and_update().clone();
    while view.changed().await.is_ok() {
        let now = view.borrow_and_update().clone();
        let (session, to) = (interface.get().await, interface.signal_emitter());
        if shown.state != now.state {
            session.state_changed(to).await?;
        }
        if shown.turns != now.turns {
            session.turns_changed(to).await?;
            session.prompt_tokens_changed(to).await?;
            session.cached_tokens_changed(to).await?;
        }
        shown = now;
    }
    Ok(())
}
