//! Converts texts to tokens of a model, and back.

use hearth_proto::{Command, Event, Failure, ModelRef, Priority, Prompt, RequestId, Use};

use super::Dispatcher;
use super::accept::check_size;
use crate::caller::Caller;
use crate::engines::engine_died;

/// The most tokens converted to text at once: more than the size of any context.
const TOKENS_MAX: usize = 1 << 20;

/// How a text is tokenized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokenizing {
    /// Whether the token that begins a text is added, if the model has one.
    pub bos: bool,
    /// Whether names of control tokens are ordinary text.
    pub plain: bool,
    /// Whether the bytes of each token are wanted.
    pub pieces: bool,
}

/// A text as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// The tokens.
    pub tokens: Vec<i32>,
    /// The bytes of each, if wanted; those of a control token are its name.
    pub pieces: Vec<Vec<u8>>,
}

impl Dispatcher {
    /// The tokens of a text, without template; without a name by the loaded model, or by the
    /// default one if none is loaded.
    ///
    /// # Errors
    /// `InvalidArgs` where the text is too long, those of loading, `EngineCrashed`.
    pub async fn tokenize(
        &self,
        caller: &Caller,
        model: &ModelRef,
        text: String,
        how: Tokenizing,
    ) -> Result<Tokenized, Failure> {
        let limit = self.shared.config.get().queue.prompt_max_bytes;
        check_size(&Prompt::Text(text.clone()), limit)?;
        let command = |id| Command::Tokenize {
            id,
            text,
            bos: how.bos,
            plain: how.plain,
            pieces: how.pieces,
        };
        match self.convert(caller, model, command).await? {
            Event::Tokenized { tokens, pieces, .. } => Ok(Tokenized { tokens, pieces }),
            _ => Err(engine_died()),
        }
    }

    /// Number of tokens of a text, including the one that begins it.
    ///
    /// # Errors
    /// As [`Self::tokenize`].
    pub async fn count_tokens(
        &self,
        caller: &Caller,
        model: &ModelRef,
        text: String,
    ) -> Result<u32, Failure> {
        let how = Tokenizing {
            bos: true,
            ..Tokenizing::default()
        };
        let made = self.tokenize(caller, model, text, how).await?;
        Ok(u32::try_from(made.tokens.len()).unwrap_or(u32::MAX))
    }

    /// The text of tokens; tokens that the model does not have, and those without text,
    /// give none. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Self::tokenize`].
    pub async fn detokenize(
        &self,
        caller: &Caller,
        model: &ModelRef,
        tokens: Vec<i32>,
    ) -> Result<String, Failure> {
        if tokens.len() > TOKENS_MAX {
            return Err(Failure::invalid(format!(
                "{} tokens: send at most {TOKENS_MAX}",
                tokens.len()
            ))
            .about("tokens"));
        }
        let command = |id| Command::Detokenize { id, tokens };
        match self.convert(caller, model, command).await? {
            Event::Detokenized { text, .. } => Ok(text),
            _ => Err(engine_died()),
        }
    }

    async fn convert(
        &self,
        caller: &Caller,
        model: &ModelRef,
        command: impl FnOnce(RequestId) -> Command,
    ) -> Result<Event, Failure> {
        let pool = &self.shared.pool;
        let model = pool.ready_or_load(caller, model, Use::Completion).await?;
        self.call_engine(&model, Priority::Interactive, command, false)
            .await
    }
}
