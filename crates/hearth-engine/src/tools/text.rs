//! The tokens of a text for evaluation and importance matrices.

use hearth_proto::Failure;

use crate::backend::{Backend, Part, Token};

/// The minimum number of tokens of a text.
const TOKENS_MIN: usize = 32;
/// A text, cut into chunks.
#[derive(Debug)]
pub(super) struct Text {
    /// Chunks of one context each.
    pub(super) chunks: Vec<Vec<Token>>,
    /// All tokens of the text.
    pub(super) tokens: Vec<Token>,
}

impl Text {
    /// Cuts a text into chunks of `context` tokens, or of the model's training context if
    /// that is shorter.
    pub(super) fn read<B: Backend>(backend: &B, text: &str, context: u32) -> Result<Self, Failure> {
        let tokens = backend.tokenize(text, true);
        // A model that requires a BOS token requires it before every chunk.
        let plain = backend.tokenize(text, false);
        let begin = tokens.first().filter(|_| plain.len() < tokens.len());
        let known = backend.info().context_train.max(1);
        let mut chunks = chunks(&tokens, context.min(known) as usize)?;
        if let Some(begin) = begin {
            for chunk in &mut chunks {
                chunk[0] = *begin;
            }
        }
        Ok(Self { chunks, tokens })
    }
}

/// A chunk as one sequence, with the positions that have logits.
pub(super) fn parts(chunk: &[Token], samples: impl Fn(usize) -> bool) -> Vec<Part> {
    let part = |(position, token): (u32, &Token)| Part {
        token: *token,
        position,
        seq: 0,
        samples: samples(position as usize),
    };
    (0..).zip(chunk).map(part).collect()
}

/// The chunks of a text, each of at most `context` tokens.
fn chunks(tokens: &[Token], context: usize) -> Result<Vec<Vec<Token>>, Failure> {
    if tokens.len() < TOKENS_MIN {
        let message = format!(
            "the text has {} tokens, and {TOKENS_MIN} are needed: give a longer one",
            tokens.len()
        );
        return Err(Failure::invalid(message));
    }
    let context = context.max(TOKENS_MIN);
    let whole = tokens.chunks(context);
    // The remainder at the end would have less context; a short text is one chunk.
    let chunks = whole.filter(|chunk| chunk.len() == context || tokens.len() < context);
    Ok(chunks.map(<[Token]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_whole_chunks() {
        let tokens: Vec<Token> = (0..100).collect();
        let lengths = |context| {
            let chunks = chunks(&tokens, context).unwrap();
            chunks.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(40), [40, 40]);
        assert_eq!(lengths(100), [100]);
        assert_eq!(lengths(512), [100], "a short text is one chunk");
        let short = chunks(&tokens[..31], 40).unwrap_err();
        assert!(short.message.contains("31 tokens"), "{short}");
    }
}
