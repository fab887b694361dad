//! Session objects, `/org/hearthd/Inference1/sessions/<id>`.

use hearth_proto::Failure;
use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::InterfaceRef;
use zbus::{OwnedObjectPath, interface};

use super::callers::{BusCaller, Callers};
use super::options::{self, Options};
use super::{Error, PATH};
use crate::daemon::Daemon;
use crate::sessions::SessionView;

/// The interface `org.hearthd.Inference1.Session`. Only the owner's user and root can use
/// it; other users can see that it exists.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    daemon: Daemon,
    callers: Callers,
    view: watch::Receiver<SessionView>,
}

#[interface(name = "org.hearthd.Inference1.Session")]
impl Session {
    /// Appends text to the user's next turn, without an answer. The text of the next
    /// `Generate` is added to the same turn.
    async fn append(
        &self,
        text: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let caller = &peer.caller;
        Ok(self.daemon.sessions.append(caller, self.id, &text)?)
    }

    /// Adds the user's turn and the model's answer to the conversation, and returns the
    /// answer. With an empty text, the turn is the appended text. If the call fails or is
    /// cancelled, the session does not change. While it runs, further calls fail with `Busy`.
    /// Options: those of `OpenSession` except `system` and `model`, for this turn only;
    /// `json_schema` (s): the answer is JSON that is valid against this schema (empty: any
    /// object); `deadline_ms` (t or u): fail with `DeadlineExceeded` after this time.
    #[zbus(out_args("text"))]
    async fn generate(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let turn = options::session_turn(&options)?;
        let (sessions, caller) = (&self.daemon.sessions, &peer.caller);
        tokio::select! {
            answer = sessions.answer(caller, self.id, &text, turn) => Ok(answer?),
            () = peer.disconnected() => Err(Failure::cancelled().into()),
        }
    }

    /// Opens a session of the caller that begins with a copy of this conversation.
    #[zbus(out_args("session"))]
    async fn clone(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let id = self.daemon.sessions.clone_session(&peer.caller, self.id)?;
        serve(&self.daemon, &self.callers, connection, peer, id).await
    }

    /// Closes the session and discards the conversation. A running answer is cancelled.
    async fn close(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        Ok(self.daemon.sessions.close(&peer.caller, self.id)?)
    }

    /// idle or answering.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.view.borrow().state.as_str()
    }

    /// Number of answers in the conversation.
    #[zbus(property)]
    fn turns(&self) -> u32 {
        self.view.borrow().turns
    }

    /// Prompt tokens of the last answer.
    #[zbus(property)]
    fn prompt_tokens(&self) -> u32 {
        self.view.borrow().prompt_tokens
    }

    /// Prompt tokens of the last answer that were in the prefix cache.
    #[zbus(property)]
    fn cached_tokens(&self) -> u32 {
        self.view.borrow().cached_tokens
    }

    /// User id of the owner.
    #[zbus(property(emits_changed_signal = "const"))]
    fn uid(&self) -> u32 {
        self.view.borrow().uid
    }

    /// Unique bus name of the caller that opened the session; it is closed when the caller
    /// leaves the bus.
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
    owner: BusCaller,
    id: u64,
) -> Result<OwnedObjectPath, Error> {
    let gone = || Failure::invalid(format!("session {id} is already closed: open another one"));
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
            () = owner.disconnected() => {}
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
