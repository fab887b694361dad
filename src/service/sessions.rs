//! Sessions: conversations that the daemon stores for their owner.
//!
//! Only text is stored here. Continuing one is cheap because of the prompt cache: a turn's
//! prompt begins with what was computed for the turns before it.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::types::{Answer, Caller, SessionState, SessionView, Turn};
use super::{Service, check_bytes, stopping};
use crate::protocol::{Failure, FailureKind, Message, Prompt, RequestOptions};

/// The most sessions at once: each may hold a prompt of the largest size.
const SESSIONS_MAX: usize = 64;
/// The most sessions of one user.
const SESSIONS_PER_USER_MAX: usize = 16;

/// All open sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<u64, Session>,
    last: u64,
}

#[derive(Debug)]
struct Session {
    view: watch::Sender<SessionView>,
    conversation: Conversation,
}

/// The messages so far, and the settings for further turns.
#[derive(Clone, Debug, Default)]
struct Conversation {
    /// Options of every turn.
    options: RequestOptions,
    messages: Vec<Message>,
    /// The user's text since the last answer.
    appended: String,
}

impl Conversation {
    /// Adds to the user's next turn. It becomes one turn: many chat templates require user
    /// and assistant to alternate.
    fn append(&mut self, text: &str) {
        if !self.appended.is_empty() && !text.is_empty() {
            self.appended.push_str("\n\n");
        }
        self.appended.push_str(text);
    }

    /// Adds the appended text as the user's turn.
    fn take_turn(&mut self) {
        let said = std::mem::take(&mut self.appended);
        self.messages.push(Message::user(said));
    }

    /// Bytes of text in the conversation.
    fn bytes(&self) -> usize {
        let said: usize = self.messages.iter().map(|m| m.content.len()).sum();
        said + self.appended.len()
    }
}

impl Session {
    fn set(&self, state: SessionState) {
        self.view.send_modify(|view| view.state = state);
    }
}

impl Sessions {
    /// Opens a session with this conversation.
    fn add(&mut self, owner: &Caller, conversation: Conversation) -> Result<u64, Failure> {
        let owned = self.open.values();
        let owned = owned.filter(|s| s.view.borrow().uid == owner.uid).count();
        if owned >= SESSIONS_PER_USER_MAX {
            return Err(Failure::new(
                FailureKind::QuotaExceeded,
                format!(
                    "uid {} has {owned} sessions open: close one first",
                    owner.uid
                ),
            ));
        }
        if self.open.len() >= SESSIONS_MAX {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("{SESSIONS_MAX} sessions are open: try again when one was closed"),
            ));
        }
        self.last += 1;
        let view = SessionView {
            id: self.last,
            uid: owner.uid,
            sender: owner.sender.clone(),
            ..SessionView::default()
        };
        let session = Session {
            view: watch::Sender::new(view),
            conversation,
        };
        self.open.insert(self.last, session);
        Ok(self.last)
    }

    /// A session that this caller may use.
    fn own(&mut self, caller: &Caller, id: u64) -> Result<&mut Session, Failure> {
        let session = self.open.get_mut(&id).ok_or_else(|| unknown(id))?;
        let owner = session.view.borrow().uid;
        if caller.uid == owner || caller.uid == 0 {
            return Ok(session);
        }
        Err(Failure::new(
            FailureKind::AccessDenied,
            format!("session {id} belongs to uid {owner}: open one of your own"),
        ))
    }

    /// The same, if no answer is running in it.
    fn idle(&mut self, caller: &Caller, id: u64) -> Result<&mut Session, Failure> {
        let session = self.own(caller, id)?;
        if session.view.borrow().state == SessionState::Idle {
            return Ok(session);
        }
        Err(Failure::new(
            FailureKind::Busy,
            format!("session {id} is answering: wait for the answer, or clone the session"),
        ))
    }
}

impl Service {
    /// Opens a session. `fields` are those of an `OpenAI` request and apply to every turn;
    /// an empty `system` is no system prompt.
    ///
    /// # Errors
    /// `InvalidArgs` naming a field, `QuotaExceeded` and `Busy` where there are too many,
    /// `ContextTooLong` where the system prompt is over the configured bound.
    pub fn open_session(
        &self,
        caller: &Caller,
        system: String,
        options: RequestOptions,
    ) -> Result<u64, Failure> {
        let system = Message {
            role: "system".into(),
            content: system,
            ..Message::default()
        };
        let conversation = Conversation {
            options,
            messages: Some(system)
                .into_iter()
                .filter(|message| !message.content.is_empty())
                .collect(),
            appended: String::new(),
        };
        check_bytes(conversation.bytes(), self.config().queue.prompt_max_bytes)?;
        let mut inner = self.lock();
        if inner.draining {
            return Err(stopping());
        }
        inner.sessions.add(caller, conversation)
    }

    /// Adds to the user's next turn, without an answer.
    ///
    /// # Errors
    /// `AccessDenied` for anyone but its owner's user and root, `InvalidArgs` for an
    /// unknown session, `Busy` while it answers, `ContextTooLong`.
    pub fn append_to_session(&self, caller: &Caller, id: u64, text: &str) -> Result<(), Failure> {
        let limit = self.config().queue.prompt_max_bytes;
        let mut inner = self.lock();
        let session = inner.sessions.idle(caller, id)?;
        let before = session.conversation.appended.len();
        session.conversation.append(text);
        let fits = check_bytes(session.conversation.bytes(), limit);
        if fits.is_err() {
            session.conversation.appended.truncate(before);
        }
        fits
    }

    /// Adds the user's turn, answers, and adds the answer as the next turn. If there is no
    /// answer, the session stays as it was.
    ///
    /// # Errors
    /// As [`Self::append_to_session`] and [`Self::submit`]; `Cancelled` where the session
    /// was closed meanwhile.
    pub async fn answer_in_session(
        &self,
        caller: &Caller,
        id: u64,
        text: &str,
        turn: Turn,
    ) -> Result<String, Failure> {
        let (mut conversation, mut view) = {
            let mut inner = self.lock();
            let session = inner.sessions.idle(caller, id)?;
            session.set(SessionState::Answering);
            (session.conversation.clone(), session.view.subscribe())
        };
        let answering = Answering {
            service: self.clone(),
            id,
        };
        conversation.append(text);
        if conversation.appended.trim().is_empty() {
            return Err(Failure::invalid(
                "there is nothing to answer: give a text, or append one first",
            ));
        }
        conversation.take_turn();
        let mut submission = turn
            .options
            .or(&conversation.options)
            .submission(Prompt::Chat {
                messages: conversation.messages.clone(),
                tools: Vec::new(),
            });
        let constrained = submission.request.constraint.is_some();
        submission.deadline = turn.deadline;
        let stream = self.submit(caller, submission)?;
        let closed = async {
            // Waits only for the end: no view satisfies this condition.
            _ = view.wait_for(|_| false).await;
        };
        let answer = tokio::select! {
            answer = stream.collect() => answer?,
            () = closed => return Err(closed_meanwhile(id)),
        };
        let answer = if constrained {
            answer.whole_json()?
        } else {
            answer
        };
        let said = answer.content.clone();
        conversation.messages.push(Message {
            role: "assistant".into(),
            content: said.clone(),
            reasoning_content: answer.reasoning.clone(),
            ..Message::default()
        });
        answering.end(conversation, &answer)?;
        Ok(said)
    }

    /// Opens a session of this caller that begins with the conversation of another one.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above, `QuotaExceeded` and `Busy` where there are
    /// too many.
    pub fn clone_session(&self, caller: &Caller, id: u64) -> Result<u64, Failure> {
        let mut inner = self.lock();
        let session = inner.sessions.own(caller, id)?;
        let (conversation, view) = (session.conversation.clone(), session.view.borrow().clone());
        let clone = inner.sessions.add(caller, conversation)?;
        if let Some(session) = inner.sessions.open.get(&clone) {
            session.view.send_modify(|new| {
                new.turns = view.turns;
                new.prompt_tokens = view.prompt_tokens;
                new.cached_tokens = view.cached_tokens;
            });
        }
        Ok(clone)
    }

    /// Closes a session; a running answer is cancelled.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above.
    pub fn close_session(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        let mut inner = self.lock();
        inner.sessions.own(caller, id)?;
        inner.sessions.open.remove(&id);
        Ok(())
    }

    /// The public view of a session and its changes; closed with the session.
    pub fn watch_session(&self, id: u64) -> Option<watch::Receiver<SessionView>> {
        Some(self.lock().sessions.open.get(&id)?.view.subscribe())
    }
}

/// A session with a running answer. If this is dropped before the end, nothing of the turn
/// is stored.
struct Answering {
    service: Service,
    id: u64,
}

impl Answering {
    /// Stores the conversation with its new turns.
    fn end(self, conversation: Conversation, answer: &Answer) -> Result<(), Failure> {
        let mut inner = self.service.lock();
        let session = inner.sessions.open.get_mut(&self.id);
        let session = session.ok_or_else(|| closed_meanwhile(self.id))?;
        session.conversation = conversation;
        session.view.send_modify(|view| {
            view.turns += 1;
            view.prompt_tokens = answer.usage.prompt_tokens;
            view.cached_tokens = answer.usage.cached_tokens;
        });
        Ok(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(session) = self.service.lock().sessions.open.get(&self.id) {
            session.set(SessionState::Idle);
        }
    }
}

fn unknown(id: u64) -> Failure {
    Failure::invalid(format!(
        "there is no session {id}: it was closed, or its owner has left the bus; open another"
    ))
}

fn closed_meanwhile(id: u64) -> Failure {
    Failure::new(
        FailureKind::Cancelled,
        format!("session {id} was closed before its answer was complete"),
    )
}
