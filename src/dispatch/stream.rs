//! The events of one accepted request.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use hearth_proto::{Answer, Failure, RequestId, StreamEvent};
use tokio::sync::mpsc;

use super::Dispatcher;

/// The events of one accepted request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    pub(super) id: RequestId,
    pub(super) model: String,
    pub(super) wants_logprobs: bool,
    pub(super) events: mpsc::UnboundedReceiver<StreamEvent>,
    pub(super) guard: Option<CancelGuard>,
}

/// Cancels a request when dropped, unless disarmed.
#[derive(Debug)]
pub(super) struct CancelGuard {
    dispatcher: Dispatcher,
    id: RequestId,
    armed: bool,
}

impl CancelGuard {
    pub(super) fn new(dispatcher: Dispatcher, id: RequestId) -> Self {
        Self {
            dispatcher,
            id,
            armed: true,
        }
    }

    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if self.armed {
            self.dispatcher.cancel(self.id, Failure::cancelled());
        }
    }
}

impl Stream {
    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The name of the model that answers.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        let event = ready!(self.events.poll_recv(cx));
        if matches!(
            event,
            None | Some(StreamEvent::Finished { .. } | StreamEvent::Failed(_))
        ) && let Some(guard) = self.guard.take()
        {
            guard.disarm();
        }
        Poll::Ready(event)
    }

    /// Its answer, still empty.
    pub(crate) fn answer(&self) -> Answer {
        Answer {
            wants_logprobs: self.wants_logprobs,
            ..Answer::new(self.id, &self.model)
        }
    }

    /// Waits for the complete answer.
    ///
    /// # Errors
    /// The failure that ended the request.
    pub async fn collect(self) -> Result<Answer, Failure> {
        self.collect_with(|_| ()).await
    }

    /// The same; `show` gets each event before it is added to the answer.
    ///
    /// # Errors
    /// The same.
    pub async fn collect_with(
        mut self,
        mut show: impl FnMut(&StreamEvent),
    ) -> Result<Answer, Failure> {
        let mut answer = self.answer();
        while let Some(event) = self.next().await {
            show(&event);
            if answer.add(event)? {
                return Ok(answer);
            }
        }
        Err(Failure::cancelled())
    }
}
