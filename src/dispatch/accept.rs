//! Accepts requests, or refuses them at once with the reason.

use std::time::Duration;

use hearth_policy::quota::Charged;
use hearth_proto::{
    Failure, FailureKind, GenerateRequest, Message, ModelKind, ModelRef, Prompt, PromptPart,
    RequestId, Submission, Use,
};
use tokio::sync::mpsc;

use super::entry::Waiting;
use super::requests::Requests;
use super::resume::Progress;
use super::stream::CancelGuard;
use super::{Dispatcher, Stream};
use crate::caller::Caller;
use crate::clock::unix_seconds;
use crate::config::Config;
use crate::engines::{RETRY_S, stopping};

/// Which users share the computed prefix of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The caller's user alone.
    Caller,
    /// All users: it is a configured prompt.
    Everyone,
}

impl Dispatcher {
    /// Enqueues a request, or refuses it at once with the reason.
    ///
    /// # Errors
    /// `Busy` while draining, `QueueFull`, `QuotaExceeded`, `ModelNotFound`, `InvalidArgs`,
    /// `ContextTooLong` where the text alone is over the configured bound, `InvalidSchema`
    /// where the constraint is invalid, `OutOfMemory` and
    /// `Overheated` where the board allows nothing.
    pub async fn submit(&self, caller: &Caller, submission: Submission) -> Result<Stream, Failure> {
        let stream = self.submit_for(caller, submission, Owner::Caller).await?;
        // Only a prewarm can be a duplicate.
        stream.ok_or_else(Failure::cancelled)
    }

    pub(super) async fn submit_for(
        &self,
        caller: &Caller,
        submission: Submission,
        owner: Owner,
    ) -> Result<Option<Stream>, Failure> {
        let accepted = self.accept(caller, submission, owner).await;
        if let Err(failure) = &accepted {
            self.shared.metrics.refused(&caller.origin, failure.kind);
        }
        accepted
    }

    async fn accept(
        &self,
        caller: &Caller,
        mut submission: Submission,
        owner: Owner,
    ) -> Result<Option<Stream>, Failure> {
        let config = self.shared.config.get();
        let derived = submission.model.as_deref();
        let derived = derived.and_then(|name| self.shared.store.derived(name));
        if let Some(derived) = derived {
            derived.defaults.apply(&mut submission.request);
        }
        check_size(&submission.request.prompt, config.queue.prompt_max_bytes)?;
        hearth_constraint::check(&submission.request)
            .map_err(|failure| in_constraint(failure, &submission.request))?;
        if self.shared.requests.lock().draining {
            return Err(stopping());
        }
        // Without an engine the sensors are not read regularly.
        if let Some(failure) = self.shared.board.recent().await.refusal() {
            return Err(failure);
        }
        let model = ModelRef::from(submission.model.as_deref());
        let purpose = submission.request.prompt.wanted();
        if submission.request.prompt.media().next().is_some() {
            // A projector may have been copied into the folder: it decides which model this is.
            self.shared.store.refresh().await;
        }
        let (model, kind) = self.resolve(&model, purpose).await?;
        let submission = self.name_adapters(submission, &model).await?;
        self.renew_for(&model, &submission.request);
        self.check_media(&model, &submission.request.prompt)?;
        self.enqueue(caller, submission, owner, &config, model, kind)
    }

    /// The name of the requested model, and its kind if that is already known.
    pub(super) async fn resolve(
        &self,
        model: &ModelRef,
        purpose: Use,
    ) -> Result<(String, Option<ModelKind>), Failure> {
        if let Some(loaded) = self.shared.pool.loaded(model, purpose) {
            let kind = loaded.info.map(|info| info.kind);
            return Ok((loaded.name, kind));
        }
        let found = self.shared.store.find_for(model, purpose).await?;
        // It may be loaded, and not fit the use.
        if let Some(loaded) = self.shared.pool.status().get(&found.name) {
            let kind = loaded.info.as_ref().map(|info| info.kind);
            return Ok((found.name, kind));
        }
        // The engine will report what is wrong with a header that cannot be read.
        let kind = found.header.ok().and_then(|header| header.model_kind());
        Ok((found.name, kind))
    }

    /// Replaces the numbers of adapters with their names.
    async fn name_adapters(
        &self,
        mut submission: Submission,
        model: &str,
    ) -> Result<Submission, Failure> {
        let lora = &mut submission.request.lora;
        if !lora.is_empty() {
            *lora = self.shared.store.refresh().await.named(lora, model)?;
        }
        Ok(submission)
    }

    /// Enqueues a request; `None` if it prewarms what is queued or running already.
    fn enqueue(
        &self,
        caller: &Caller,
        mut submission: Submission,
        owner: Owner,
        config: &Config,
        model: String,
        kind: Option<ModelKind>,
    ) -> Result<Option<Stream>, Failure> {
        if let Some(text) = submission.base_text.take()
            && kind == Some(ModelKind::Base)
        {
            submission.request.prompt = Prompt::Text(text);
        }
        if let Some(kind) = kind {
            kind.check(submission.request.prompt.wanted())?;
        }
        let now = self.now();
        let mut requests = self.shared.requests.lock();
        // The board may have changed since it was asked.
        if let Some(failure) = self.shared.board.refusal() {
            return Err(failure);
        }
        let is_prewarm = submission.request.prewarm && owner == Owner::Caller;
        let uid = caller.principal.uid();
        if is_prewarm && requests.deduplicate_prewarm(uid, &submission) {
            return Ok(None);
        }
        requests.check(now, caller, &submission, owner, config)?;
        let id = requests.next_id();
        fill_in(&mut submission, caller, owner, config, id);
        let (request, deadline) = (submission.request, submission.deadline);
        let (wants_logprobs, priority) = (request.logprobs.is_some(), request.priority);
        let (sender, events) = mpsc::unbounded_channel();
        let waiting = Waiting {
            request,
            model: model.clone(),
            caller: caller.clone(),
            charged: Charged::default(),
            events: sender,
            submitted: now,
            position: None,
            progress: Progress::default(),
            file: None,
        };
        let fair_caller = waiting.fair_caller();
        requests.queue.push(now, id, priority, fair_caller, waiting);
        self.pump(&mut requests);
        drop(requests);
        if let Some(deadline) = deadline {
            self.cancel_after(id, deadline);
        }
        Ok(Some(Stream {
            id,
            wants_logprobs,
            model,
            events,
            guard: Some(CancelGuard::new(self.clone(), id)),
        }))
    }

    fn cancel_after(&self, id: RequestId, deadline: Duration) {
        let dispatcher = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            let message = format!(
                "no answer within {} ms, the deadline of the request: set a longer one, or try again later",
                deadline.as_millis()
            );
            let failure = Failure::new(FailureKind::DeadlineExceeded, message);
            dispatcher.cancel(id, failure);
        });
    }
}

impl Requests {
    /// Whether one more request of this caller is accepted.
    fn check(
        &mut self,
        now: Duration,
        caller: &Caller,
        submission: &Submission,
        owner: Owner,
        config: &Config,
    ) -> Result<(), Failure> {
        if self.draining {
            return Err(stopping());
        }
        if owner == Owner::Caller {
            let waiting = self.queued_by_callers();
            if waiting >= config.queue.length_max as usize {
                return Err(queue_full(waiting));
            }
            self.check_jobs(caller.principal, &config.limits)?;
            self.check_tokens(now, caller.principal, &config.limits)?;
        }
        if let Some(seconds) = self.quarantine.refused_s(now, &submission.request) {
            return Err(quarantined(seconds));
        }
        Ok(())
    }
}

/// Fills in defaults, and the fields that only the daemon sets.
fn fill_in(
    submission: &mut Submission,
    caller: &Caller,
    owner: Owner,
    config: &Config,
    id: RequestId,
) {
    let request = &mut submission.request;
    request.id = id;
    request.uid = (owner == Owner::Caller).then(|| caller.principal.uid());
    let default_max = Some(config.sampling.max_tokens).filter(|n| *n > 0);
    request.max_tokens = request.max_tokens.or(default_max);
    let call_mode = config.sampling.tool_call_mode;
    request.call_mode.get_or_insert(call_mode);
    request.accepted_unix_s = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
    // Drawn here, so that another engine continues with the same seed.
    let seed = &mut request.sampling.seed;
    seed.get_or_insert_with(|| fastrand::u32(..));
}

fn queue_full(waiting: usize) -> Failure {
    let message = format!(
        "{waiting} requests are already queued: try again later, or raise `queue.length_max`"
    );
    Failure::new(FailureKind::QueueFull, message).retry_after(RETRY_S)
}

fn quarantined(seconds: u32) -> Failure {
    let message =
        format!("this request crashed the engine and is refused for {seconds} s: change it");
    Failure::new(FailureKind::EngineCrashed, message).retry_after(seconds)
}

/// Names the field of a constraint that cannot be used.
pub(super) fn in_constraint(failure: Failure, request: &GenerateRequest) -> Failure {
    match request.constraint_field {
        Some(field) if failure.kind == FailureKind::InvalidSchema && failure.field.is_none() => {
            let message = format!("`{field}`: {}", failure.message);
            Failure { message, ..failure }.about(field)
        }
        _ => failure,
    }
}

/// Refuses a prompt that is too long: tokenizing megabytes takes minutes on a small board.
pub(super) fn check_size(prompt: &Prompt, max: u32) -> Result<(), Failure> {
    let size = |m: &Message| m.content.len() + m.reasoning_content.len();
    let bytes = match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Mixed(parts) => parts.iter().map(PromptPart::bytes).sum(),
        Prompt::Infill(infill) => infill.bytes(),
        Prompt::Chat { messages, .. } => messages.iter().map(size).sum(),
    };
    check_bytes(bytes, max)
}

/// The same for a number of bytes.
pub(crate) fn check_bytes(bytes: usize, max: u32) -> Result<(), Failure> {
    if bytes <= max as usize {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::ContextTooLong,
        format!(
            "the prompt has {bytes} bytes, at most {max} are accepted: shorten it, or raise `queue.prompt_max_bytes`"
        ),
    ))
}
