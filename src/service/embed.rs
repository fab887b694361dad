//! Embeddings: one text after another, so that answers continue in between.

use super::types::Caller;
use super::{Service, check_size, crashed, stopping};
use crate::protocol::{Command, Event, Failure, FailureKind, Prompt, Use};

/// The most texts in one request (OpenAI's bound).
const TEXTS_MAX: usize = 2048;

/// Vectors of texts, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Each has length one.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub tokens: u32,
    /// The model that made them.
    pub model: String,
}

impl Service {
    /// The vectors of texts, made by a model (empty: the loaded or default one).
    ///
    /// # Errors
    /// `InvalidArgs` where there is no text, an empty one or too many; `NotSupported` where
    /// the model makes no vectors; `ContextTooLong` naming the text; `QuotaExceeded`; those
    /// of loading; `EngineCrashed`.
    pub async fn embed(
        &self,
        caller: &Caller,
        model: &str,
        texts: Vec<String>,
    ) -> Result<Embeddings, Failure> {
        if texts.is_empty() || texts.len() > TEXTS_MAX {
            return Err(Failure::invalid(format!(
                "{} texts: send 1 to {TEXTS_MAX}",
                texts.len()
            )));
        }
        if let Some(at) = texts.iter().position(String::is_empty) {
            return Err(Failure::invalid(format!("text {at} is empty")));
        }
        let config = self.config();
        let (_, kind) = self.find(&self.lock(), model, &config)?;
        if let Some(kind) = kind {
            kind.check(Use::Embedding)?;
        }
        let now = self.now();
        self.lock().check_tokens(now, caller, &config.limits)?;
        let limit = config.queue.prompt_max_bytes;
        let mut made = Embeddings {
            vectors: Vec::with_capacity(texts.len()),
            tokens: 0,
            model: self.ready_model(caller, model).await?,
        };
        for (at, text) in texts.into_iter().enumerate() {
            if self.lock().draining {
                return Err(stopping());
            }
            check_size(&Prompt::Text(text.clone()), limit)?;
            // Another request may have loaded another model meanwhile.
            self.ready_model(caller, &made.model).await?;
            let keeps = caller.keep.is_some();
            let asked = self.ask(|id| Command::Embed { id, text }, keeps).await;
            match asked.map_err(|failure| in_text(failure, at))? {
                Event::Embedded {
                    embedding, tokens, ..
                } => {
                    made.tokens = made.tokens.saturating_add(tokens);
                    let now = self.now();
                    self.lock().quotas.charge(now, caller.uid, tokens);
                    self.shared.metrics.computed(Some(caller.uid), tokens);
                    made.vectors.push(embedding);
                }
                _ => return Err(crashed()),
            }
        }
        let (uid, sender, model) = (caller.uid, caller.sender.as_str(), made.model.as_str());
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        log::info!(
            uid, caller_unit, sender, model,
            texts = made.vectors.len(), prompt_tokens = made.tokens;
            "embedded"
        );
        Ok(made)
    }

    /// Waits until a model is ready and returns its name.
    pub(super) async fn ready_model(
        &self,
        caller: &Caller,
        model: &str,
    ) -> Result<String, Failure> {
        let is_any = model.is_empty() || model == "default";
        let ready = {
            let inner = self.lock();
            let loaded = inner.loaded_model().filter(|_| inner.is_ready());
            loaded
                .filter(|name| is_any || *name == model)
                .map(str::to_owned)
        };
        if let Some(name) = ready {
            return Ok(name);
        }
        let default = self.config().model.default.clone();
        let name = self.shared.store.resolve(model, &default)?.name;
        self.load_model(caller, &name).await?;
        Ok(name)
    }
}

fn in_text(mut failure: Failure, at: usize) -> Failure {
    if failure.kind == FailureKind::ContextTooLong {
        failure.message = format!("text {at}: {}", failure.message);
    }
    failure
}
