//! Prewarming: prompts that are computed before a request needs them.

use hearth_proto::{
    Failure, FailureKind, GenerateRequest, Lora, Message, ModelRef, Priority, Prompt, Submission,
    Use,
};
use serde_json::Value;

use super::accept::Owner;
use super::entry::Waiting;
use super::requests::Requests;
use super::{Dispatcher, Stream};
use crate::caller::{Caller, Origin, Principal};
use crate::config::PrewarmConfig;
use crate::engines::PoolStatus;

/// The most queued prewarms of one user.
const WAITING_MAX: usize = 4;

/// The common prefix of conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prewarm {
    /// The system prompt; may be empty where there are tools.
    pub system: String,
    /// Further messages that all of them have.
    pub messages: Vec<Message>,
    /// Tools offered to the model, in the format of OpenAI's API.
    pub tools: Vec<Value>,
    /// Name of the model; `None`: the loaded or the default one.
    pub model: Option<String>,
    /// The adapters that the conversations apply.
    pub lora: Vec<Lora>,
}

impl Prewarm {
    fn submission(self) -> Result<Submission, Failure> {
        let is_empty = self.system.trim().is_empty() && self.messages.is_empty();
        if is_empty && self.tools.is_empty() {
            return Err(Failure::invalid(
                "there is nothing to prewarm: set a system prompt or `tools`",
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
                lora: self.lora,
                priority: Priority::Background,
                prewarm: true,
                ..GenerateRequest::default()
            },
            model: self.model,
            ..Submission::default()
        })
    }
}

impl Dispatcher {
    /// Computes the common prefix of conversations into the prefix cache of the caller's
    /// user, at background priority. Returns once it is queued; `None` if the same one is
    /// already queued or running. Dropping the stream cancels it.
    ///
    /// # Errors
    /// As [`Self::submit`], and `InvalidArgs` where there is nothing to compute.
    pub async fn prewarm(
        &self,
        caller: &Caller,
        prewarm: Prewarm,
    ) -> Result<Option<Stream>, Failure> {
        let submission = prewarm.submission()?;
        self.submit_for(caller, submission, Owner::Caller).await
    }

    /// Computes the configured prompts, shared by all users, each time a model has been
    /// loaded: one after another, so that they take one place in the queue. Never returns.
    pub async fn prewarm_after_loads(&self) {
        self.warn_of_unknown_models();
        let mut pool = self.shared.pool.subscribe();
        let mut loads = 0;
        while pool.wait_for(|pool| pool.loads != loads).await.is_ok() {
            loads = pool.borrow_and_update().loads;
            let config = self.shared.config.get();
            for (n, table) in (1..).zip(&config.prewarm) {
                match self.prewarm_configured(table).await {
                    Ok(()) => {}
                    Err(failure) if failure.kind == FailureKind::Cancelled => {}
                    Err(failure) => {
                        log::warn!("[[prewarm]] number {n} was not computed: {failure}");
                    }
                }
            }
        }
    }

    async fn prewarm_configured(&self, table: &PrewarmConfig) -> Result<(), Failure> {
        let model = ModelRef::from(table.model.as_str());
        let model = self.shared.store.find(&model).await?.name;
        if self.shared.pool.status().get(&model).is_none() {
            return Ok(());
        }
        let prewarm = Prewarm {
            system: table.system.clone(),
            messages: Vec::new(),
            tools: table.tools.clone(),
            model: Some(model),
            lora: Vec::new(),
        };
        let caller = Caller::new(Principal::Uid(0), Origin::Config);
        let submission = prewarm.submission()?;
        let stream = self
            .submit_for(&caller, submission, Owner::Everyone)
            .await?;
        match stream {
            Some(stream) => stream.collect().await.map(|_| ()),
            None => Ok(()),
        }
    }

    fn warn_of_unknown_models(&self) {
        let config = self.shared.config.get();
        for (n, table) in (1..).zip(&config.prewarm) {
            let model = ModelRef::named(&table.model);
            if !table.model.is_empty()
                && let Err(failure) = self.shared.store.find_listed(&model, Use::Chat)
            {
                log::warn!("[[prewarm]] number {n} names a missing model: {failure}");
            }
        }
    }
}

impl Requests {
    /// Returns whether the same prewarm of this user is already queued or running. If too
    /// many of the user are queued, drops the oldest: they are the most likely to be outdated.
    pub(super) fn deduplicate_prewarm(&mut self, uid: u32, submission: &Submission) -> bool {
        let model = submission.model.as_deref().unwrap_or_default();
        let is_same = |w: &Waiting| {
            w.caller.principal.uid() == uid
                && w.request.prewarm
                && w.request.prompt == submission.request.prompt
                && w.request.lora == submission.request.lora
                && (model.is_empty() || w.model == model)
        };
        if self.known().any(is_same) {
            return true;
        }
        let is_own = |w: &Waiting| {
            w.caller.principal.uid() == uid && w.request.prewarm && !w.is_configured_prompt()
        };
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

    /// Drops the configured prompts for models that are neither wanted nor in memory: they
    /// are no reason to load them again.
    pub(super) fn drop_stale_prewarms(&mut self, pool: &PoolStatus) {
        let is_stale = |w: &Waiting| {
            let resident = pool.get(&w.model).filter(|resident| !resident.is_ending);
            w.is_configured_prompt() && resident.is_none() && !pool.wanted.contains(&w.model)
        };
        self.fail_queued(is_stale, &Failure::cancelled());
    }

    /// Cancels running prewarms of a model, or all.
    pub(super) fn cancel_prewarms(&mut self, model: Option<&str>) {
        for running in self.running.values_mut() {
            let is_meant = model.is_none_or(|model| running.waiting.model == model);
            if is_meant && running.waiting.request.prewarm && running.failure.is_none() {
                running.cancel(Failure::cancelled());
            }
        }
    }
}
