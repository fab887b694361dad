//! Prewarming: prompts that are computed before anyone asks.

use serde_json::Value;

use super::Service;
use super::state::{Inner, Waiting};
use super::types::{Caller, Stream, Submission};
use crate::config::PrewarmConfig;
use crate::protocol::{
    Failure, FailureKind, GenerateRequest, Message, Priority, Prompt, RequestId,
};

/// The most queued prewarms of one user.
const WAITING_MAX: usize = 4;

/// The common beginning of conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prewarm {
    /// The system prompt; may be empty where there are tools.
    pub system: String,
    /// Further messages that all of them have.
    pub messages: Vec<Message>,
    /// Tools offered to the model, in `OpenAI`'s form.
    pub tools: Vec<Value>,
    /// Model by name; `None` takes the loaded or default one.
    pub model: Option<String>,
}

impl Prewarm {
    fn submission(self) -> Result<Submission, Failure> {
        let is_empty = self.system.trim().is_empty() && self.messages.is_empty();
        if is_empty && self.tools.is_empty() {
            return Err(Failure::invalid(
                "there is nothing to prewarm: give a system prompt or `tools`",
            ));
        }
        let system = Message {
            role: "system".into(),
            content: self.system,
            ..Message::default()
        };
        let system = Some(system).filter(|message| !message.content.is_empty());
        let messages: Vec<Message> = system.into_iter().chain(self.messages).collect();
        Ok(Submission {
            request: GenerateRequest {
                shared_messages: u32::try_from(messages.len()).ok(),
                prompt: Prompt::Chat {
                    messages,
                    tools: self.tools,
                },
                priority: Priority::Background,
                prewarm: true,
                ..GenerateRequest::default()
            },
            model: self.model,
            ..Submission::default()
        })
    }
}

impl Service {
    /// Has the beginning of conversations computed and cached, for the caller's user, when
    /// the engine is otherwise idle. Returns once it is queued; `None` if the same one is
    /// already queued or running. Dropping the stream cancels it.
    ///
    /// # Errors
    /// As [`Self::submit`], and `InvalidArgs` where there is nothing to compute.
    pub fn prewarm(&self, caller: &Caller, prewarm: Prewarm) -> Result<Option<Stream>, Failure> {
        let submission = prewarm.submission()?;
        if self.lock().make_way(caller.uid, &submission) {
            return Ok(None);
        }
        self.submit(caller, submission).map(Some)
    }

    /// Computes the configured prompts, shared by all users, each time a model has been
    /// loaded: one after another, so that they take one place in the queue. Never returns.
    pub(super) async fn prewarm_after_loads(&self) {
        self.warn_of_unknown_models();
        loop {
            self.shared.loaded.notified().await;
            let config = self.config();
            for (n, table) in (1..).zip(&config.prewarm) {
                match self.prewarm_shared(table).await {
                    Ok(()) => {}
                    Err(failure) if failure.kind == FailureKind::Cancelled => {}
                    Err(failure) => {
                        log::warn!("[[prewarm]] number {n} was not computed: {failure}");
                    }
                }
            }
        }
    }

    async fn prewarm_shared(&self, table: &PrewarmConfig) -> Result<(), Failure> {
        let config = self.config();
        let model = self
            .shared
            .store
            .resolve(&table.model, &config.model.default)?;
        if self.lock().loaded_model() != Some(&model.name) {
            return Ok(());
        }
        let prewarm = Prewarm {
            system: table.system.clone(),
            messages: Vec::new(),
            tools: table.tools.clone(),
            model: Some(model.name),
        };
        let caller = Caller {
            uid: 0,
            sender: "config".into(),
            keep: None,
            unit: None,
        };
        let stream = self.submit_as(&caller, prewarm.submission()?, None)?;
        stream.collect().await.map(|_| ())
    }

    fn warn_of_unknown_models(&self) {
        let config = self.config();
        for (n, table) in (1..).zip(&config.prewarm) {
            if !table.model.is_empty()
                && let Err(failure) = self.shared.store.resolve(&table.model, "")
            {
                log::warn!("[[prewarm]] number {n} waits for its model: {failure}");
            }
        }
    }
}

impl Inner {
    /// Queued requests without the configured prompts, which take no place in the queue's
    /// limit.
    pub(super) fn asked_for(&self) -> usize {
        let waiting = self.queue.iter();
        waiting.filter(|(_, w)| !is_shared(&w.request)).count()
    }

    /// Returns whether a user's beginning is already being computed or queued. If too many
    /// are queued, the oldest are dropped: they are the most likely to be out of date.
    fn make_way(&mut self, uid: u32, submission: &Submission) -> bool {
        let model = submission.model.as_deref().unwrap_or_default();
        let is_same = |w: &Waiting| {
            w.uid == uid
                && w.request.prewarm
                && w.request.prompt == submission.request.prompt
                && (model.is_empty() || w.model == model)
        };
        if self.known().any(is_same) {
            return true;
        }
        let is_own = |w: &Waiting| w.uid == uid && w.request.prewarm && !is_shared(&w.request);
        let waiting = self.queue.iter().filter(|(_, w)| is_own(w)).count();
        let mut surplus = (waiting + 1).saturating_sub(WAITING_MAX);
        let dropped = self.queue.drain_where(|w| {
            let goes = surplus > 0 && is_own(w);
            surplus -= usize::from(goes);
            goes
        });
        for waiting in dropped {
            waiting.fail(Failure::cancelled());
        }
        false
    }

    /// Drops the configured prompts for a model that is no longer wanted: they are no
    /// reason to load it again.
    pub(super) fn drop_stale_prewarms(&mut self) {
        let wanted = self.wanted().map(str::to_owned);
        let stale = self
            .queue
            .drain_where(|w| is_shared(&w.request) && Some(&w.model) != wanted.as_ref());
        for waiting in stale {
            waiting.fail(Failure::cancelled());
        }
    }

    /// Cancels running prewarms: the model and its cached prefixes are about to be
    /// unloaded.
    pub(super) fn cancel_prewarms(&mut self) {
        let ids: Vec<RequestId> = self.running_prewarms().collect();
        for id in ids {
            self.cancel(id, Failure::cancelled());
        }
    }
}

pub(super) fn is_shared(request: &GenerateRequest) -> bool {
    request.prewarm && request.uid.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prewarm_is_background_work_without_an_answer() {
        let tool = json!({"type": "function", "function": {"name": "f"}});
        for (system, tools, messages) in [("a", vec![], 1), ("", vec![tool.clone()], 0)] {
            let prewarm = Prewarm {
                system: system.into(),
                messages: Vec::new(),
                tools: tools.clone(),
                model: Some("m".into()),
            };
            let submission = prewarm.submission().unwrap();
            assert_eq!(submission.model.as_deref(), Some("m"));
            let request = submission.request;
            assert!(request.prewarm);
            assert_eq!(request.priority, Priority::Background);
            let Prompt::Chat {
                messages: said,
                tools: offered,
            } = request.prompt
            else {
                panic!("a chat");
            };
            assert_eq!((said.len(), offered), (messages, tools));
        }
    }

    #[test]
    fn nothing_is_refused() {
        let prewarm = Prewarm {
            system: " \n".into(),
            ..Prewarm::default()
        };
        let failure = prewarm.submission().unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgs);
        assert!(failure.message.contains("nothing to prewarm"), "{failure}");
    }
}
