//! The prompt of a request: rendered by the chat layer, tokenized, and short enough.

mod media;
mod mixed;

use hearth_proto::{
    Failure, FailureKind, GenerateRequest, Message, Overflow, Prompt, PromptSize, common_prefix,
};

use super::answer::AnswerReader;
use super::as_u32;
use super::backend::{Backend, Token};
use super::chat::{ChatLayer, ChatPrompt};
use super::infill;
use super::pieces::Pieces;
use super::texts::check_bytes;

/// Bytes of text per token of the context. Ordinary text has 2 to 5; longer input is
/// refused before it is tokenized, which cannot be aborted and takes seconds per
/// megabyte.
pub(super) const BYTES_PER_TOKEN: usize = 32;

/// A tokenized prompt, and how its answer is parsed.
#[derive(Debug)]
pub(super) struct TokenizedPrompt {
    /// At least one, and fewer than the context size.
    pub(super) tokens: Vec<Token>,
    /// The pictures and sounds among them.
    pub(super) pieces: Pieces,
    pub(super) reader: AnswerReader,
    /// Control tokens that are text of the answer.
    pub(super) controls: Vec<(Token, String)>,
    pub(super) stops: Vec<String>,
    /// Tokens before those that the answer begins with.
    pub(super) answer_at: usize,
    /// As the chat layer rendered it; `None` for plain text.
    pub(super) chat: Option<ChatPrompt>,
}

impl TokenizedPrompt {
    /// Renders and tokenizes a request's prompt.
    ///
    /// # Errors
    /// `ContextTooLong`, `InvalidArgs`, `InvalidSchema`.
    pub(super) fn new<B: Backend>(
        backend: &B,
        chat: &ChatLayer,
        request: &GenerateRequest,
    ) -> Result<Self, Failure> {
        let context = context_of(backend, request);
        let whole = backend.info().context_size;
        let made = Self::within(backend, chat, request, context);
        made.or_else(|failure| {
            if failure.kind != FailureKind::ContextTooLong || context == whole {
                return Err(failure);
            }
            // The bound is the client's guess at the memory: what remains of a shortened
            // conversation is not refused for it.
            if request.overflow == Overflow::TruncateMiddle {
                return Self::within(backend, chat, request, whole);
            }
            let message = format!(
                "the prompt does not fit into the {context} tokens that the request allows \
                 (`num_ctx`): shorten the prompt, or allow more"
            );
            Err(Failure { message, ..failure })
        })
    }

    /// The same in a context of this size.
    fn within<B: Backend>(
        backend: &B,
        chat: &ChatLayer,
        request: &GenerateRequest,
        context: u32,
    ) -> Result<Self, Failure> {
        let (messages, tools) = match &request.prompt {
            Prompt::Text(text) => return Ok(Self::plain(tokenize(backend, chat, text, context)?)),
            Prompt::Mixed(parts) => {
                return Ok(Self::plain(mixed::tokens(backend, chat, parts, context)?));
            }
            Prompt::Infill(texts) => {
                let tokens = infill::tokens(backend, texts, (context, request.max_tokens))?;
                check_count(&tokens, context)?;
                return Ok(Self::plain(tokens));
            }
            Prompt::Chat { messages, tools } => (messages, tools),
        };
        if request.prewarm
            && let Some(prefix) = chat.stable_prefix(request, messages, tools)
        {
            return Ok(Self::plain(tokenize(backend, chat, &prefix, context)?));
        }
        let marked = media::marked(backend, messages)?;
        let messages = marked.as_ref().unwrap_or(messages);
        let render = |messages: &[Message]| {
            let prompt = chat.render(request, messages, tools)?;
            let tokens = media::tokens(backend, chat, &prompt.text, messages, context)?;
            Ok((tokens, prompt))
        };
        let too_long = |result: &Result<_, Failure>| matches!(result, Err(failure) if failure.kind == FailureKind::ContextTooLong);
        let mut result = render(messages);
        if request.overflow == Overflow::TruncateMiddle {
            let mut messages = messages.clone();
            while too_long(&result) && remove_oldest_turn(&mut messages) {
                result = render(&messages);
            }
        }
        let ((tokens, pieces), mut prompt) = result?;
        let named = |name: &String| Some((backend.named(name)?, name.clone()));
        let begun = backend.tokenize(&prompt.generation_prompt, false);
        let begun = common_prefix(tokens.iter().rev(), begun.iter().rev());
        Ok(Self {
            answer_at: tokens.len() - begun,
            tokens,
            pieces,
            controls: prompt.controls.iter().filter_map(named).collect(),
            stops: std::mem::take(&mut prompt.stops),
            reader: std::mem::replace(&mut prompt.reader, AnswerReader::plain()),
            chat: Some(prompt),
        })
    }

    fn plain(tokens: Vec<Token>) -> Self {
        Self {
            answer_at: tokens.len(),
            tokens,
            pieces: Pieces::default(),
            reader: AnswerReader::plain(),
            controls: Vec::new(),
            stops: Vec::new(),
            chat: None,
        }
    }
}

/// The text and the tokens of a prompt, as [`TokenizedPrompt::new`] makes them. A text may be
/// longer than the context: its length is what the caller wants to know. No message is omitted.
///
/// # Errors
/// As [`TokenizedPrompt::new`].
pub(super) fn render<B: Backend>(
    backend: &B,
    chat: &ChatLayer,
    request: &GenerateRequest,
) -> Result<(String, Vec<Token>), Failure> {
    let all = |text: &str| {
        check_bytes(text)?;
        Ok::<_, Failure>(tokens_of(backend, chat, text))
    };
    let (messages, tools) = match &request.prompt {
        Prompt::Text(text) => return Ok((text.clone(), all(text)?)),
        Prompt::Mixed(parts) => {
            let tokens = mixed::tokens(backend, chat, parts, context_of(backend, request))?;
            return Ok((mixed::text(backend, parts), tokens));
        }
        Prompt::Infill(texts) => {
            let prompt = TokenizedPrompt::new(backend, chat, request)?;
            return Ok((texts.prompt.clone(), prompt.tokens));
        }
        Prompt::Chat { messages, tools } => (messages, tools),
    };
    let marked = media::marked(backend, messages)?;
    let messages = marked.as_ref().unwrap_or(messages);
    let text = chat.render(request, messages, tools)?.text;
    let tokens = if marked.is_some() {
        media::tokens(backend, chat, &text, messages, context_of(backend, request))?.0
    } else {
        all(&text)?
    };
    Ok((text, tokens))
}

/// Removes the oldest turn, a question with all that follows up to the next one; system
/// messages and the latest turn stay. Returns whether there was one to remove.
fn remove_oldest_turn(messages: &mut Vec<Message>) -> bool {
    let mut questions = (0..messages.len()).filter(|n| messages[*n].role == "user");
    let (Some(first), Some(next)) = (questions.next(), questions.next()) else {
        return false;
    };
    let mut at = 0..;
    messages.retain(|message| {
        let at = at.next().unwrap_or(0);
        !(first..next).contains(&at) || message.role == "system"
    });
    true
}

/// The most tokens of a request's prompt and answer together.
pub(super) fn context_of(backend: &impl Backend, request: &GenerateRequest) -> u32 {
    let context = backend.info().context_size;
    request.context_max.map_or(context, |max| max.min(context))
}

/// The most tokens of an answer to a prompt of this many, which may be more than the request's
/// own bound.
pub(super) fn room_of(backend: &impl Backend, request: &GenerateRequest, prompt: u32) -> u32 {
    let bound = context_of(backend, request);
    let room = bound.checked_sub(prompt).filter(|room| *room > 0);
    room.unwrap_or_else(|| backend.info().context_size.saturating_sub(prompt))
}

/// The tokens of a prompt that fits into the context.
pub(super) fn tokenize(
    backend: &impl Backend,
    chat: &ChatLayer,
    text: &str,
    context: u32,
) -> Result<Vec<Token>, Failure> {
    check_length(text, context)?;
    let tokens = tokens_of(backend, chat, text);
    check_count(&tokens, context)?;
    Ok(tokens)
}

fn tokens_of(backend: &impl Backend, chat: &ChatLayer, text: &str) -> Vec<Token> {
    // Many templates write the BOS token themselves; two of them make the answer worse.
    let has_bos = !chat.bos().is_empty() && text.starts_with(chat.bos());
    backend.tokenize(text, !has_bos)
}

/// Refuses a prompt that leaves no room for an answer, or is empty.
fn check_count(tokens: &[Token], context: u32) -> Result<(), Failure> {
    let count = as_u32(tokens.len());
    if count == 0 {
        return Err(Failure::invalid(
            "the prompt is empty: send at least one word",
        ));
    }
    check_room(count, context)
}

/// Refuses a prompt that leaves no room for an answer.
fn check_room(count: u32, context: u32) -> Result<(), Failure> {
    if count < context {
        return Ok(());
    }
    let message = format!(
        "the prompt has {count} tokens, the context holds {context}: shorten the prompt, or raise \
         `model.context` in hearthd.toml"
    );
    Err(Failure {
        size: Some(PromptSize {
            tokens: count,
            context,
        }),
        ..Failure::new(FailureKind::ContextTooLong, message)
    })
}

/// Refuses a text that is far too long before it is tokenized.
pub(super) fn check_length(text: &str, context: u32) -> Result<(), Failure> {
    if text.len() / BYTES_PER_TOKEN < context as usize {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::ContextTooLong,
        format!(
            "the prompt has {} bytes, far more than a context of {context} tokens holds: shorten \
             the prompt",
            text.len()
        ),
    ))
}
