//! Embeddings.

use hearth_proto::{Command, EmbedInput, Event, Failure, ModelRef, RequestId, Use};

use super::Dispatcher;
use super::texts::{TEXTS_MAX, TextWork};
use crate::caller::Caller;

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
    pub async fn embed<T: Into<EmbedInput>>(
        &self,
        caller: &Caller,
        model: &ModelRef,
        texts: Vec<T>,
    ) -> Result<Embeddings, Failure> {
        self.embed_texts(caller, model, texts, Overlong::Refuse)
            .await
    }

    /// As [`Self::embed`], with a choice for texts that are too long.
    ///
    /// # Errors
    /// The same.
    pub async fn embed_texts<T: Into<EmbedInput>>(
        &self,
        caller: &Caller,
        model: &ModelRef,
        texts: Vec<T>,
        overlong: Overlong,
    ) -> Result<Embeddings, Failure> {
        let texts: Vec<EmbedInput> = texts.into_iter().map(Into::into).collect();
        check_texts(&texts)?;
        let work = Embed {
            truncate: overlong == Overlong::Cut,
        };
        let worked = self.work_on(caller, model, &work, texts.into_iter());
        let worked = worked.await?;
        let (user, sender) = (caller.principal, &caller.origin);
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        let model = worked.model.as_str();
        log::info!(
            uid:% = user, caller_unit, sender:%, model,
            texts = worked.outputs.len(), prompt_tokens = worked.tokens;
            "embedded"
        );
        Ok(Embeddings {
            vectors: worked.outputs,
            tokens: worked.tokens,
            model: worked.model,
        })
    }
}

/// What to do with a text that is longer than the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// Fail with `ContextTooLong`.
    Refuse,
    /// Leave out its end.
    Cut,
}

/// The vector of each text.
struct Embed {
    truncate: bool,
}

impl TextWork for Embed {
    type Input = EmbedInput;
    type Output = Vec<f32>;
    const PURPOSE: Use = Use::Embedding;
    const WHAT: &'static str = "text";
    const FIELD: &'static str = "input";

    fn bytes(&self, input: &EmbedInput) -> usize {
        input.bytes()
    }

    fn command(&self, id: RequestId, input: EmbedInput) -> Command {
        let truncate = self.truncate;
        Command::Embed {
            id,
            input,
            truncate,
        }
    }

    fn output(event: Event) -> Option<(Self::Output, u32)> {
        match event {
            Event::Embedded {
                embedding, tokens, ..
            } => Some((embedding, tokens)),
            _ => None,
        }
    }
}

fn check_texts(texts: &[EmbedInput]) -> Result<(), Failure> {
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        let count = texts.len();
        let message = format!("{count} texts: send 1 to {TEXTS_MAX}");
        return Err(Failure::invalid(message).about(Embed::FIELD));
    }
    match texts.iter().position(|text| text.bytes() == 0) {
        Some(at) => Err(
            Failure::invalid(format!("text {at} is empty: send non-empty texts"))
                .about(format!("{}[{at}]", Embed::FIELD)),
        ),
        None => Ok(()),
    }
}
