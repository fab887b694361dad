//! Pictures and sounds in a prompt: markers in the messages, and tokens for the markers.

use std::sync::Arc;

use hearth_proto::{Failure, FailureKind, Message};

use super::{check_length, check_room, tokenize};
use crate::as_u32;
use crate::backend::{Backend, Chunk, Medium, Token};
use crate::chat::ChatLayer;
use crate::llama::no_projector;
use crate::pieces::{Pieces, Placed};

/// The messages with a marker in the place of each picture and sound; `None` where there are
/// none.
///
/// # Errors
/// `NotSupported` where the model takes none.
pub(super) fn marked(
    backend: &impl Backend,
    messages: &[Message],
) -> Result<Option<Vec<Message>>, Failure> {
    if messages.iter().all(|message| message.media.is_empty()) {
        return Ok(None);
    }
    let decoder = backend.media_ref().ok_or_else(no_projector)?;
    let marker = decoder.marker();
    let mark = |message: &Message| {
        let mut message = message.clone();
        for media in message.media.iter().rev() {
            let at = floor_char(&message.content, media.at);
            message.content.insert_str(at, marker);
        }
        message
    };
    Ok(Some(messages.iter().map(mark).collect()))
}

/// The beginning of the character that byte `at` belongs to.
fn floor_char(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The tokens of a rendered prompt, and the pictures and sounds in it.
///
/// # Errors
/// Those of [`tokenize`]; `InvalidArgs` where a picture or sound cannot be used;
/// `NotSupported` where the template leaves them out.
// One pass over the pieces of a prompt: an arm for each kind of them.
pub(super) fn tokens(
    backend: &impl Backend,
    chat: &ChatLayer,
    text: &str,
    messages: &[Message],
    context: u32,
) -> Result<(Vec<Token>, Pieces), Failure> {
    let media = messages.iter().flat_map(|message| &message.media);
    let media: Vec<Arc<Medium>> = media
        .map(|media| Medium::new(media).map(Arc::new))
        .collect::<Result<_, _>>()?;
    let Some(decoder) = backend.media_ref().filter(|_| !media.is_empty()) else {
        return Ok((tokenize(backend, chat, text, context)?, Pieces::default()));
    };
    check_length(text, context)?;
    if text.matches(decoder.marker()).count() != media.len() {
        return Err(Failure::new(
            FailureKind::NotSupported,
            "the model's chat template leaves pictures out of these messages: send them in the \
             user's messages",
        ));
    }
    let has_bos = !chat.bos().is_empty() && text.starts_with(chat.bos());
    let list: Vec<&Medium> = media.iter().map(|medium| &**medium).collect();
    let (mut tokens, mut pieces) = (Vec::new(), Pieces::default());
    for chunk in decoder.layout(text, !has_bos, &list)? {
        match chunk {
            Chunk::Text(more) if more.iter().any(|token| *token < 0) => {
                return Err(Failure::new(
                    FailureKind::NotSupported,
                    "the model's vocabulary lacks the tokens that its projector puts around \
                     pictures: its files do not belong together",
                ));
            }
            Chunk::Text(more) => tokens.extend(more),
            Chunk::Media {
                medium,
                index,
                piece,
            } => {
                let Some(medium) = media.get(medium) else {
                    continue;
                };
                let at = as_u32(tokens.len());
                tokens.extend(medium.placeholders(index, piece.positions));
                pieces.push(Placed {
                    at,
                    medium: Arc::clone(medium),
                    index,
                    piece,
                });
            }
        }
    }
    check_room(
        as_u32(tokens.len()) + pieces.tokens_without_position(),
        context,
    )?;
    if tokens.last().is_none_or(|last| *last < 0) {
        return Err(Failure::invalid(
            "a text has to follow the last picture or sound",
        ));
    }
    Ok((tokens, pieces))
}

#[cfg(test)]
mod tests {
    use super::floor_char;

    #[test]
    fn a_marker_never_splits_a_character() {
        assert_eq!(
            [0, 1, 2, 3, 9].map(|at| floor_char("aäb", at)),
            [0, 1, 1, 3, 4]
        );
    }
}
