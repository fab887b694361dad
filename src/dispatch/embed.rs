//! Embeddings: one text at a time, so that answers continue in between.

use hearth_proto::{Command, Event, Failure, FailureKind, ModelRef, Priority, Prompt, Use};

use super::Dispatcher;
use super::accept::check_size;
use crate::caller::Caller;
use crate::engines::{engine_died, stopping};

/// The most texts in one request (OpenAI's bound).
pub(super) const TEXTS_MAX: usize = 2048;

/// Vectors of texts, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Each has length one.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub tokens: u32,
    /// The model that computed them.
    pub model: String,
}

impl Dispatcher {
    /// Computes the vectors of texts with a model.
    ///
    /// # Errors
    /// `InvalidArgs` where there is no text, an empty one or too many; `NotSupported` where
    /// the model computes no embeddings; `ContextTooLong` naming the text; `QuotaExceeded`; those
    /// of loading; `EngineCrashed`.
    pub async fn embed(
        &self,
        caller: &Caller,
        model: &ModelRef,
        texts: Vec<String>,
    ) -> Result<Embeddings, Failure> {
        check_texts(&texts)?;
        let config = self.shared.config.get();
        if let (_, Some(kind)) = self.resolve(model, Use::Embedding).await? {
            kind.check(Use::Embedding)?;
        }
        let (now, user) = (self.now(), caller.principal);
        self.shared
            .requests
            .lock()
            .check_tokens(now, user, &config.limits)?;
        let mut result = Embeddings {
            vectors: Vec::with_capacity(texts.len()),
            tokens: 0,
            model: self
                .shared
                .pool
                .ready_or_load(caller, model, Use::Embedding)
                .await?,
        };
        for (at, text) in texts.into_iter().enumerate() {
            if self.shared.requests.lock().draining {
                return Err(stopping());
            }
            check_size(&Prompt::Text(text.clone()), config.queue.prompt_max_bytes)?;
            let embedded = self.embed_one(caller, &result.model, text).await;
            let (embedding, tokens) = embedded.map_err(|failure| in_text(failure, at))?;
            result.tokens = result.tokens.saturating_add(tokens);
            result.vectors.push(embedding);
        }
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        let (sender, model) = (&caller.origin, result.model.as_str());
        log::info!(
            uid:% = user, caller_unit, sender:%, model,
            texts = result.vectors.len(), prompt_tokens = result.tokens;
            "embedded"
        );
        Ok(result)
    }

    /// The vector of one text and its number of tokens.
    async fn embed_one(
        &self,
        caller: &Caller,
        model: &str,
        text: String,
    ) -> Result<(Vec<f32>, u32), Failure> {
        // Another request may have loaded another model meanwhile.
        let wanted = ModelRef::named(model);
        let pool = &self.shared.pool;
        pool.ready_or_load(caller, &wanted, Use::Embedding).await?;
        let sets_keep_alive = caller.keep.is_some();
        // An import of many texts is not to slow down answers of other models.
        let class = Priority::Background;
        let embed = |id| Command::Embed { id, text };
        let reply = self.call_engine(model, class, embed, sets_keep_alive);
        let Event::Embedded {
            embedding, tokens, ..
        } = reply.await?
        else {
            return Err(engine_died());
        };
        let (now, uid) = (self.now(), caller.principal.uid());
        self.shared.requests.lock().quotas.charge(now, uid, tokens);
        self.shared.metrics.computed(Some(uid), tokens);
        Ok((embedding, tokens))
    }
}

fn check_texts(texts: &[String]) -> Result<(), Failure> {
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        let count = texts.len();
        return Err(Failure::invalid(format!(
            "{count} texts: send 1 to {TEXTS_MAX}"
        )));
    }
    match texts.iter().position(String::is_empty) {
        Some(at) => Err(Failure::invalid(format!(
            "text {at} is empty: send non-empty texts"
        ))),
        None => Ok(()),
    }
}

fn in_text(mut failure: Failure, at: usize) -> Failure {
    if failure.kind == FailureKind::ContextTooLong {
        failure.message = format!("text {at}: {}", failure.message);
    }
    failure
}
