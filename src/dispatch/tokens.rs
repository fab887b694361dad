//! Converts texts to tokens of the loaded model, and back.

use hearth_proto::{Command, Event, Failure, ModelRef, Priority, Prompt, Use};

use super::Dispatcher;
use super::accept::check_size;
use crate::caller::Caller;
use crate::engines::engine_died;

/// The most tokens converted to text at once: more than the size of any context.
const TOKENS_MAX: usize = 1 << 20;

impl Dispatcher {
    /// The tokens of a text, without template, by the loaded model, or by the default one
    /// if none is loaded; `bos` adds the token that begins a text, if the model has one.
    ///
    /// # Errors
    /// `InvalidArgs` where the text is too long, those of loading, `EngineCrashed`.
    pub async fn tokenize(
        &self,
        caller: &Caller,
        text: String,
        bos: bool,
    ) -> Result<Vec<i32>, Failure> {
        let limit = self.shared.config.get().queue.prompt_max_bytes;
        check_size(&Prompt::Text(text.clone()), limit)?;
        let pool = &self.shared.pool;
        let model = pool
            .ready_or_load(caller, &ModelRef::Default, Use::Completion)
            .await?;
        let reply = self.call_engine(
            &model,
            Priority::Interactive,
            |id| Command::Tokenize { id, text, bos },
            false,
        );
        match reply.await? {
            Event::Tokenized { tokens, .. } => Ok(tokens),
            _ => Err(engine_died()),
        }
    }

    /// Number of tokens of a text, including the one that begins it.
    ///
    /// # Errors
    /// As [`Self::tokenize`].
    pub async fn count_tokens(&self, caller: &Caller, text: String) -> Result<u32, Failure> {
        let tokens = self.tokenize(caller, text, true).await?;
        Ok(u32::try_from(tokens.len()).unwrap_or(u32::MAX))
    }

    /// The text of tokens; tokens that the model does not have, and those without text,
    /// give none. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Self::tokenize`].
    pub async fn detokenize(&self, caller: &Caller, tokens: Vec<i32>) -> Result<String, Failure> {
        if tokens.len() > TOKENS_MAX {
            return Err(Failure::invalid(format!(
                "{} tokens: send at most {TOKENS_MAX}",
                tokens.len()
            )));
        }
        let pool = &self.shared.pool;
        let model = pool
            .ready_or_load(caller, &ModelRef::Default, Use::Completion)
            .await?;
        let reply = self.call_engine(
            &model,
            Priority::Interactive,
            |id| Command::Detokenize { id, tokens },
            false,
        );
        match reply.await? {
            Event::Detokenized { text, .. } => Ok(text),
            _ => Err(engine_died()),
        }
    }
}
