//! Session objects, `/org/hearthd/Inference1/sessions/<id>`.

use hearth_proto::bus::SESSION_INTERFACE;
use hearth_proto::{Answer, Failure};
use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::InterfaceRef;
use zbus::{OwnedFd, OwnedObjectPath, interface};

use super::callers::{BusCaller, Callers};
use super::changed::{Changed, text};
use super::jobs::response;
use super::options::Options;
use super::{Error, PATH, session_options, stream};
use crate::daemon::Daemon;
use crate::sessions::{SessionView, Turn};

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
    /// answer's text. With an empty text, the turn is the appended text. If the call fails or
    /// is cancelled, the session does not change. While it runs, further calls fail with
    /// `Busy`. Options: those of `OpenSession` except `system` and `model`, for this turn only;
    /// `json_schema` (s): the answer is JSON that is valid against this schema (empty: any
    /// object); `deadline_ms` (t or u): fail with `DeadlineExceeded` after this time. With
    /// tools, use `Chat` or `OpenStream`: an answer with calls fails here.
    #[zbus(out_args("text"))]
    async fn generate(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let turn = session_options::session_turn(&options)?;
        let is_json = turn.options.constraint.is_some();
        let check = |answer: Answer| {
            if !answer.calls.is_empty() {
                return Err(Failure::invalid(
                    "the model called a tool: use `Chat` or `OpenStream`, which return calls",
                ));
            }
            if is_json {
                answer.whole_json()
            } else {
                Ok(answer)
            }
        };
        Ok(self.answer(&peer, &text, turn, check).await?.content)
    }

    /// As `Generate`, and returns the response of OpenAI's API as JSON, with the calls of tools,
    /// the reason for its end and the tokens. Give the results of its calls to
    /// `AddToolResult`, then call this with an empty text.
    #[zbus(out_args("response"))]
    async fn chat(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let turn = session_options::session_turn(&options)?;
        Ok(response(&self.answer(&peer, &text, turn, Ok).await?))
    }

    /// As `Chat`, and writes the events as lines of JSON to a pipe, as the manager's
    /// `OpenStream`. The last line comes after the session has changed. Closing the pipe
    /// cancels the answer.
    #[zbus(out_args("events"))]
    async fn open_stream(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedFd, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let turn = session_options::session_turn(&options)?;
        let sessions = &self.daemon.sessions;
        let running = sessions.begin(&peer.caller, self.id, &text, turn).await?;
        Ok(stream::of_turn(&self.daemon, running)?.into())
    }

    /// Adds the result of a call of the model's last answer, by the call's `id`. The next
    /// answer needs the results of all its calls.
    async fn add_tool_result(
        &self,
        call: String,
        content: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let (sessions, caller) = (&self.daemon.sessions, &peer.caller);
        Ok(sessions.add_tool_result(caller, self.id, &call, &content)?)
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

    /// Prompt tokens of the last answer; 0 before the first.
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

impl Session {
    /// Waits for the answer of a turn; it is cancelled if the caller leaves the bus.
    async fn answer(
        &self,
        peer: &BusCaller,
        text: &str,
        turn: Turn,
        check: impl FnOnce(Answer) -> Result<Answer, Failure>,
    ) -> Result<Answer, Error> {
        let sessions = &self.daemon.sessions;
        let answer = async {
            let running = sessions.begin(&peer.caller, self.id, text, turn).await?;
            running.finish(check, |_| ()).await
        };
        Box::pin(peer.while_connected(answer)).await
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
        let mut changed = Changed::default();
        changed.add("State", (&shown.state, &now.state), |state| {
            text(state.as_str())
        });
        for (name, old, new) in [
            ("Turns", shown.turns, now.turns),
            ("PromptTokens", shown.prompt_tokens, now.prompt_tokens),
            ("CachedTokens", shown.cached_tokens, now.cached_tokens),
        ] {
            changed.add(name, (&old, &new), |value| (*value).into());
        }
        let to = interface.signal_emitter();
        changed.emit(to, SESSION_INTERFACE).await?;
        shown = now;
    }
    Ok(())
}
