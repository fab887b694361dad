//! Work on many texts, which an engine does one text at a time, so that answers continue in
//! between.

use hearth_proto::{Command, Event, Failure, FailureKind, ModelRef, Priority, RequestId, Use};

use super::Dispatcher;
use super::accept::check_bytes;
use crate::caller::Caller;
use crate::engines::{engine_died, stopping};

/// The most texts in one request (OpenAI's bound).
pub(super) const TEXTS_MAX: usize = 2048;

/// What an engine does with each text.
pub(super) trait TextWork {
    /// What stands for a text.
    type Input;

    /// What comes of a text.
    type Output;

    /// What it uses the model for.
    const PURPOSE: Use;

    /// The word for a text in messages.
    const WHAT: &'static str;

    /// The field of a request that has the texts.
    const FIELD: &'static str;

    /// Bytes that are sent for a text.
    fn bytes(&self, text: &Self::Input) -> usize;

    /// The command for a text.
    fn command(&self, id: RequestId, text: Self::Input) -> Command;

    /// What the event that answers it says, and the number of tokens; `None` for another event.
    fn output(event: Event) -> Option<(Self::Output, u32)>;
}

/// What came of all texts, in their order.
pub(super) struct Worked<T> {
    pub(super) outputs: Vec<T>,
    /// Tokens of all texts together.
    pub(super) tokens: u32,
    /// The model that worked on them.
    pub(super) model: String,
}

impl Dispatcher {
    /// Has a model work on texts.
    ///
    /// # Errors
    /// `NotSupported` where the model cannot; `ContextTooLong` naming the text; `QuotaExceeded`;
    /// those of loading; `EngineCrashed`.
    pub(super) async fn work_on<W: TextWork>(
        &self,
        caller: &Caller,
        model: &ModelRef,
        work: &W,
        texts: impl ExactSizeIterator<Item = W::Input>,
    ) -> Result<Worked<W::Output>, Failure> {
        let config = self.shared.config.get();
        if let (_, Some(kind)) = self.resolve(model, W::PURPOSE).await? {
            kind.check(W::PURPOSE)?;
        }
        let (now, user) = (self.now(), caller.principal);
        self.shared
            .requests
            .lock()
            .check_tokens(now, user, &config.limits)?;
        let pool = &self.shared.pool;
        let mut worked = Worked {
            outputs: Vec::with_capacity(texts.len()),
            tokens: 0,
            model: pool.ready_or_load(caller, model, W::PURPOSE).await?,
        };
        for (at, text) in texts.enumerate() {
            if self.shared.requests.lock().draining {
                return Err(stopping());
            }
            check_bytes(work.bytes(&text), config.queue.prompt_max_bytes)?;
            let one = self.work_on_one(caller, &worked.model, work, text).await;
            let (output, tokens) = one.map_err(|failure| in_text::<W>(failure, at))?;
            worked.tokens = worked.tokens.saturating_add(tokens);
            worked.outputs.push(output);
        }
        Ok(worked)
    }

    async fn work_on_one<W: TextWork>(
        &self,
        caller: &Caller,
        model: &str,
        work: &W,
        text: W::Input,
    ) -> Result<(W::Output, u32), Failure> {
        // Another request may have loaded another model meanwhile.
        let wanted = ModelRef::named(model);
        let pool = &self.shared.pool;
        pool.ready_or_load(caller, &wanted, W::PURPOSE).await?;
        let sets_keep_alive = caller.keep.is_some();
        // An import of many texts is not to slow down answers of other models.
        let class = Priority::Background;
        let command = |id| work.command(id, text);
        let reply = self.call_engine(model, class, command, sets_keep_alive);
        let (output, tokens) = W::output(reply.await?).ok_or_else(engine_died)?;
        let (now, uid) = (self.now(), caller.principal.uid());
        self.shared.requests.lock().quotas.charge(now, uid, tokens);
        self.shared.metrics.computed(Some(uid), tokens);
        Ok((output, tokens))
    }
}

fn in_text<W: TextWork>(mut failure: Failure, at: usize) -> Failure {
    use FailureKind::{ContextTooLong, InvalidArgs};
    if matches!(failure.kind, ContextTooLong | InvalidArgs) {
        failure.message = format!("{} {at}: {}", W::WHAT, failure.message);
        return failure.about(format!("{}[{at}]", W::FIELD));
    }
    failure
}
