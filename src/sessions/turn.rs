//! A turn whose answer is running.

use hearth_proto::{Answer, Failure, FailureKind, RequestId, StreamEvent};
use tokio::sync::watch;

use super::conversation::Conversation;
use super::{SessionState, SessionView, Sessions};
use crate::dispatch::Stream;

/// A turn whose answer is running. If it is dropped before the end of the answer, the answer is
/// cancelled and the session stays as it was.
#[derive(Debug)]
pub struct RunningTurn {
    pub(super) stream: Stream,
    /// With the user's turn.
    pub(super) conversation: Conversation,
    pub(super) view: watch::Receiver<SessionView>,
    pub(super) answering: Answering,
}

impl RunningTurn {
    /// The id of the request.
    pub fn id(&self) -> RequestId {
        self.stream.id()
    }

    /// Waits for the answer, and adds it to the conversation. `check` may refuse it. `show` gets
    /// each event; the last one after the session has changed.
    ///
    /// # Errors
    /// The failure that ended the request, that of `check`, and `Cancelled` where the session
    /// was closed meanwhile.
    pub async fn finish(
        self,
        check: impl FnOnce(Answer) -> Result<Answer, Failure>,
        mut show: impl FnMut(StreamEvent),
    ) -> Result<Answer, Failure> {
        let Self {
            stream,
            conversation,
            mut view,
            answering,
        } = self;
        let id = answering.id;
        let closed = async {
            // No view satisfies this condition: it returns when the session is closed.
            _ = view.wait_for(|_| false).await;
        };
        let mut last = None;
        let answered = stream.collect_with(|event| match event {
            StreamEvent::Finished { .. } => last = Some(event.clone()),
            // The caller learns of it by the error.
            StreamEvent::Failed(_) => {}
            event => show(event.clone()),
        });
        let answer = tokio::select! {
            answer = answered => answer?,
            () = closed => return Err(closed_meanwhile(id)),
        };
        let answer = check(answer)?;
        answering.end(conversation, &answer)?;
        last.into_iter().for_each(show);
        Ok(answer)
    }
}

/// A session with a running answer. If it is dropped before [`Self::end`], the turn is not
/// stored.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) sessions: Sessions,
    pub(super) id: u64,
}

impl Answering {
    /// Stores the conversation with its new turns.
    fn end(self, mut conversation: Conversation, answer: &Answer) -> Result<(), Failure> {
        conversation.add_answer(answer);
        let mut open = self.sessions.open.lock();
        let session = open.sessions.get_mut(&self.id);
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
        if let Some(session) = self.sessions.open.lock().sessions.get(&self.id) {
            session.set(SessionState::Idle);
        }
    }
}

fn closed_meanwhile(id: u64) -> Failure {
    Failure::new(
        FailureKind::Cancelled,
        format!("session {id} was closed before its answer was complete"),
    )
}
