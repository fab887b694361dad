//! Requests about a text that need no sequence: its tokens, and its embedding.

use hearth_proto::{Event, Failure, FailureKind, RequestId, Use};

use super::as_u32;
use super::backend::{Backend, Token, Tokenizer};
use super::prompt::check_length;

/// The longest text that `Tokenize` takes, in bytes: it cannot be interrupted.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The tokens of a text.
pub(super) fn tokenize(tokenizer: &impl Tokenizer, id: RequestId, text: &str, bos: bool) -> Event {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "the text has {} bytes, at most {TEXT_BYTES_MAX} are tokenized at once: split it",
            text.len()
        );
        return Event::Failed {
            id,
            failure: Failure::invalid(message),
        };
    }
    let tokens = tokenizer.tokenize(text, bos);
    Event::Tokenized { id, tokens }
}

/// The text of tokens.
pub(super) fn detokenize(tokenizer: &impl Tokenizer, id: RequestId, tokens: &[Token]) -> Event {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| tokenizer.piece(*t)).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Event::Detokenized { id, text }
}

/// The embedding of a text.
pub(super) fn embed(backend: &mut impl Backend, id: RequestId, text: &str) -> Event {
    let tokens = embeddable(backend, text);
    let embedded = tokens.and_then(|t| Ok((backend.embed(&t)?, as_u32(t.len()))));
    match embedded {
        Ok((embedding, tokens)) => Event::Embedded {
            id,
            embedding,
            tokens,
        },
        Err(failure) => Event::Failed { id, failure },
    }
}

/// The tokens of a text that this model can embed.
fn embeddable(backend: &impl Backend, text: &str) -> Result<Vec<Token>, Failure> {
    backend.info().kind.check(Use::Embedding)?;
    let most = backend.embedding_tokens_max();
    check_length(text, most)?;
    let tokens = backend.tokenize(text, true);
    match as_u32(tokens.len()) {
        0 => Err(Failure::invalid("the text has no tokens")),
        n if n > most => Err(Failure::new(
            FailureKind::ContextTooLong,
            format!("it has {n} tokens, at most {most} are embedded: split it"),
        )),
        _ => Ok(tokens),
    }
}
