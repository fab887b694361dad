//! Sessions: conversations that the daemon stores for their owner.
//!
//! Only text is stored here. The prefix cache makes further turns cheap: the prompt of a
//! turn begins with the one of the turn before it.

mod conversation;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Failure, FailureKind, Prompt, RequestOptions};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use self::conversation::Conversation;
use self::turn::Answering;
pub use self::turn::RunningTurn;
use crate::caller::Caller;
use crate::config::ConfigReader;
use crate::dispatch::{Dispatcher, check_bytes};
use crate::engines::stopping;

/// The most sessions at once: each may hold a prompt of the largest size.
const SESSIONS_MAX: usize = 64;
/// The most sessions of one user.
const SESSIONS_PER_USER_MAX: usize = 16;

/// Options of one turn of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Options that override those of the session.
    pub options: RequestOptions,
    /// Fields of a request that concern tools; they go before those of the session.
    pub tools: Map<String, Value>,
    /// Time after the call at which the turn fails.
    pub deadline: Option<Duration>,
}

/// State of a session.
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

/// The public view of a session: no text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionView {
    /// Its number, the last part of its object path.
    pub id: u64,
    /// Its owner.
    pub uid: u32,
    /// Bus name of the caller that opened it.
    pub sender: String,
    /// Its state.
    pub state: SessionState,
    /// Answers stored.
    pub turns: u32,
    /// Tokens of the last answer's prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens from the prefix cache.
    pub cached_tokens: u32,
}

/// Handle on all open sessions; clones share everything.
#[derive(Clone, Debug)]
pub struct Sessions {
    config: ConfigReader,
    dispatcher: Dispatcher,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    sessions: BTreeMap<u64, Session>,
    last: u64,
}

#[derive(Debug)]
struct Session {
    view: watch::Sender<SessionView>,
    conversation: Conversation,
}

impl Session {
    fn set(&self, state: SessionState) {
        self.view.send_modify(|view| view.state = state);
    }
}

impl Open {
    /// Opens a session with this conversation.
    fn add(&mut self, owner: &Caller, conversation: Conversation) -> Result<u64, Failure> {
        let uid = owner.principal.uid();
        let owned = self.sessions.values();
        let owned = owned.filter(|s| s.view.borrow().uid == uid).count();
        if owned >= SESSIONS_PER_USER_MAX {
            return Err(Failure::new(
                FailureKind::QuotaExceeded,
                format!("uid {uid} has {owned} sessions open: close one first"),
            ));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("{SESSIONS_MAX} sessions are open: try again when one has been closed"),
            ));
        }
        self.last += 1;
        let view = SessionView {
            id: self.last,
            uid,
            sender: owner.origin.to_string(),
            ..SessionView::default()
        };
        let session = Session {
            view: watch::Sender::new(view),
            conversation,
        };
        self.sessions.insert(self.last, session);
        Ok(self.last)
    }

    /// A session that this caller may use.
    fn own(&mut self, caller: &Caller, id: u64) -> Result<&mut Session, Failure> {
        let session = self.sessions.get_mut(&id).ok_or_else(|| unknown(id))?;
        let owner = session.view.borrow().uid;
        if caller.principal.may_use(owner) {
            return Ok(session);
        }
        Err(Failure::new(
            FailureKind::AccessDenied,
            format!("session {id} belongs to uid {owner}: open a session of your own"),
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

impl Sessions {
    /// No sessions yet.
    pub fn new(config: ConfigReader, dispatcher: Dispatcher) -> Self {
        Self {
            config,
            dispatcher,
            open: Arc::default(),
        }
    }

    /// Opens a session. The options, and the fields of a request that concern tools, apply to
    /// every turn; an empty `system` is no system prompt.
    ///
    /// # Errors
    /// `InvalidArgs` naming a field, `QuotaExceeded` and `Busy` where there are too many,
    /// `ContextTooLong` where the system prompt is over the configured bound.
    pub fn open(
        &self,
        caller: &Caller,
        system: String,
        options: RequestOptions,
        tools: Map<String, Value>,
    ) -> Result<u64, Failure> {
        let conversation = Conversation::new(system, options, tools);
        conversation.tools_of(&Map::new())?;
        check_bytes(
            conversation.bytes(),
            self.config.get().queue.prompt_max_bytes,
        )?;
        if self.dispatcher.status().draining {
            return Err(stopping());
        }
        self.open.lock().add(caller, conversation)
    }

    /// Adds to the user's next turn, without an answer.
    ///
    /// # Errors
    /// `AccessDenied` for anyone but its owner's user and root, `InvalidArgs` for an
    /// unknown session, `Busy` while it answers, `ContextTooLong`.
    pub fn append(&self, caller: &Caller, id: u64, text: &str) -> Result<(), Failure> {
        let limit = self.config.get().queue.prompt_max_bytes;
        let mut open = self.open.lock();
        let session = open.idle(caller, id)?;
        let before = session.conversation.appended_len();
        session.conversation.append(text);
        let fits = check_bytes(session.conversation.bytes(), limit);
        if fits.is_err() {
            session.conversation.truncate_appended(before);
        }
        fits
    }

    /// Adds the result of a call of the model's last answer. The next turn needs those of all
    /// its calls.
    ///
    /// # Errors
    /// As [`Self::append`]; `InvalidArgs` where no such call waits for a result.
    pub fn add_tool_result(
        &self,
        caller: &Caller,
        id: u64,
        call: &str,
        content: &str,
    ) -> Result<(), Failure> {
        let limit = self.config.get().queue.prompt_max_bytes;
        let mut open = self.open.lock();
        let conversation = &mut open.idle(caller, id)?.conversation;
        check_bytes(conversation.bytes() + content.len(), limit)?;
        conversation.add_result(call, content)
    }

    /// Begins the user's turn and its answer. If there is no answer, the session stays as it
    /// was.
    ///
    /// # Errors
    /// As [`Self::append`] and [`Dispatcher::submit`].
    pub async fn begin(
        &self,
        caller: &Caller,
        id: u64,
        text: &str,
        turn: Turn,
    ) -> Result<RunningTurn, Failure> {
        let (mut conversation, view) = {
            let mut open = self.open.lock();
            let session = open.idle(caller, id)?;
            session.set(SessionState::Answering);
            (session.conversation.clone(), session.view.subscribe())
        };
        let answering = Answering {
            sessions: self.clone(),
            id,
        };
        conversation.append(text);
        conversation.take_turn()?;
        let tools = conversation.tools_of(&turn.tools)?;
        let options = turn.options.or(&conversation.options);
        let mut submission = options.submission(Prompt::Chat {
            messages: conversation.messages.clone(),
            tools: tools.list.clone(),
        });
        tools.apply(&mut submission.request);
        submission.deadline = turn.deadline;
        let stream = self.dispatcher.submit(caller, submission).await?;
        Ok(RunningTurn {
            stream,
            conversation,
            view,
            answering,
        })
    }

    /// Opens a session of this caller that begins with the conversation of another one.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` as above, `QuotaExceeded` and `Busy` where there are
    /// too many.
    pub fn clone_session(&self, caller: &Caller, id: u64) -> Result<u64, Failure> {
        let mut open = self.open.lock();
        let session = open.own(caller, id)?;
        let (conversation, view) = (session.conversation.clone(), session.view.borrow().clone());
        let clone = open.add(caller, conversation)?;
        if let Some(session) = open.sessions.get(&clone) {
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
    pub fn close(&self, caller: &Caller, id: u64) -> Result<(), Failure> {
        let mut open = self.open.lock();
        open.own(caller, id)?;
        open.sessions.remove(&id);
        Ok(())
    }

    /// The public view of a session and its changes; closed with the session.
    pub fn watch(&self, id: u64) -> Option<watch::Receiver<SessionView>> {
        Some(self.open.lock().sessions.get(&id)?.view.subscribe())
    }
}

fn unknown(id: u64) -> Failure {
    Failure::invalid(format!(
        "there is no session {id}: it was closed, or its owner has left the bus; open another"
    ))
}
