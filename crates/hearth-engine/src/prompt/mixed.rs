//! Prompts of texts and tokens.

use hearth_proto::{Failure, PromptPart};

use super::{check_count, check_length, tokens_of};
use crate::backend::{Backend, Token};
use crate::chat::ChatLayer;
use crate::texts::check_known;

/// The tokens of a prompt.
///
/// # Errors
/// `ContextTooLong`; `InvalidArgs` where the vocabulary has no such token: negative ones stand
/// for pictures in the engine.
pub(super) fn tokens(
    backend: &impl Backend,
    chat: &ChatLayer,
    parts: &[PromptPart],
    context: u32,
) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match part {
            PromptPart::Text(text) => {
                check_length(text, context)?;
                tokens.extend(match at {
                    0 => tokens_of(backend, chat, text),
                    _ => backend.tokenize(text, false),
                });
            }
            PromptPart::Tokens(more) => {
                check_known(backend, more)
                    .map_err(|what| Failure::invalid_field("prompt", what))?;
                tokens.extend(more);
            }
        }
    }
    check_count(&tokens, context)?;
    Ok(tokens)
}

/// The text of a prompt; control tokens have none.
pub(super) fn text(backend: &impl Backend, parts: &[PromptPart]) -> String {
    let bytes = parts.iter().flat_map(|part| match part {
        PromptPart::Text(text) => text.clone().into_bytes(),
        PromptPart::Tokens(tokens) => tokens.iter().flat_map(|t| backend.piece(*t)).collect(),
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}
