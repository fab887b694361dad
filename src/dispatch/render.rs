//! The prompt of a request, without an answer to it.

use hearth_proto::{Command, Event, Failure, ModelRef, Priority, Submission};

use super::Dispatcher;
use super::accept::check_size;
use crate::caller::Caller;
use crate::clock::unix_seconds;
use crate::engines::{engine_died, stopping};

/// A prompt as the model would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The text that the chat template makes of the messages.
    pub text: String,
    /// Its tokens: as many as `prompt_tokens` of a request's usage.
    pub tokens: Vec<i32>,
    /// The model whose template and vocabulary these are.
    pub model: String,
}

impl Dispatcher {
    /// The prompt that a request would have now: rendered with its tools and the variables of
    /// its template, and tokenized. It may be longer than the context; nothing is computed.
    ///
    /// # Errors
    /// Those of a request: `ModelNotFound`, `InvalidArgs`, `InvalidSchema`, `ContextTooLong`
    /// where the text is over the configured bound, `NotSupported`, those of loading.
    pub async fn render(
        &self,
        caller: &Caller,
        submission: Submission,
    ) -> Result<Rendering, Failure> {
        let config = self.shared.config.get();
        check_size(&submission.request.prompt, config.queue.prompt_max_bytes)?;
        hearth_constraint::check(&submission.request)?;
        if self.shared.requests.lock().draining {
            return Err(stopping());
        }
        let wanted = ModelRef::from(submission.model.as_deref());
        let purpose = submission.request.prompt.wanted();
        let (name, kind) = self.resolve(&wanted, purpose).await?;
        if let Some(kind) = kind {
            kind.check(purpose)?;
        }
        self.check_media(&name, &submission.request.prompt)?;
        let pool = &self.shared.pool;
        let model = pool
            .ready_or_load(caller, &ModelRef::named(&name), purpose)
            .await?;
        let mut request = submission.request;
        request.accepted_unix_s = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
        let call_mode = config.sampling.tool_call_mode;
        request.call_mode.get_or_insert(call_mode);
        let command = |id| {
            request.id = id;
            Command::Render(Box::new(request))
        };
        let reply = self.call_engine(&model, Priority::Interactive, command, false);
        match reply.await? {
            Event::Rendered { text, tokens, .. } => Ok(Rendering {
                text,
                tokens,
                model,
            }),
            _ => Err(engine_died()),
        }
    }
}
