//! Requests about a text that need no sequence: its tokens, its embedding, its score.

use hearth_proto::{
    EmbedInput, Event, Failure, FailureKind, PromptPart, RequestId, Use, common_prefix,
};

use super::as_u32;
use super::backend::{Backend, Token, Tokenizer};
use super::prompt::{BYTES_PER_TOKEN, check_length};

/// A text for the second context.
#[derive(Debug)]
pub(super) enum Pooled {
    /// Its embedding is wanted.
    Embed {
        input: EmbedInput,
        /// Whether the end of a text that is too long is left out.
        truncate: bool,
    },
    /// The score of a document is wanted.
    Rank { query: String, document: String },
}

/// The longest text that `Tokenize` takes, in bytes: it cannot be interrupted.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A text to tokenize, with the fields of `Command::Tokenize`.
#[derive(Debug)]
pub(super) struct Tokenize<'a> {
    pub(super) text: &'a str,
    pub(super) bos: bool,
    pub(super) plain: bool,
    pub(super) pieces: bool,
}

/// The tokens of a text.
pub(super) fn tokenize(tokenizer: &impl Tokenizer, id: RequestId, wanted: &Tokenize<'_>) -> Event {
    if let Err(failure) = check_bytes(wanted.text) {
        return Event::Failed { id, failure };
    }
    let tokens = if wanted.plain {
        tokenizer.tokenize_literal(wanted.text, wanted.bos)
    } else {
        tokenizer.tokenize(wanted.text, wanted.bos)
    };
    let named = if wanted.pieces {
        tokens.as_slice()
    } else {
        &[]
    };
    let pieces = named.iter().map(|token| tokenizer.name(*token)).collect();
    Event::Tokenized { id, tokens, pieces }
}

/// Refuses a text that takes too long to tokenize.
pub(super) fn check_bytes(text: &str) -> Result<(), Failure> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the text has {} bytes, at most {TEXT_BYTES_MAX} are tokenized at once: split it",
        text.len()
    )))
}

/// The text of tokens.
pub(super) fn detokenize(tokenizer: &impl Tokenizer, id: RequestId, tokens: &[Token]) -> Event {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| tokenizer.piece(*t)).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Event::Detokenized { id, text }
}

/// The embedding or the score of a text.
pub(super) fn pool(backend: &mut impl Backend, id: RequestId, text: &Pooled) -> Event {
    let made = match text {
        Pooled::Embed { input, truncate } => embed(backend, id, input, *truncate),
        Pooled::Rank { query, document } => rank(backend, id, query, document),
    };
    made.unwrap_or_else(|failure| Event::Failed { id, failure })
}

fn embed(
    backend: &mut impl Backend,
    id: RequestId,
    input: &EmbedInput,
    truncate: bool,
) -> Result<Event, Failure> {
    let tokens = embeddable(backend, input, truncate)?;
    Ok(Event::Embedded {
        id,
        embedding: backend.embed(&tokens)?,
        tokens: as_u32(tokens.len()),
    })
}

fn rank(
    backend: &mut impl Backend,
    id: RequestId,
    query: &str,
    document: &str,
) -> Result<Event, Failure> {
    backend.info().kind.check(Use::Rerank)?;
    let most = backend.embedding_tokens_max();
    for text in [query, document] {
        check_length(text, most)?;
    }
    let tokens = pair(backend, query, document);
    match as_u32(tokens.len()) {
        0 => Err(Failure::invalid("query and document have no tokens")),
        n if n > most => Err(Failure::new(
            FailureKind::ContextTooLong,
            format!("with the query it has {n} tokens, at most {most} are scored: split it"),
        )),
        n => Ok(Event::Ranked {
            id,
            score: backend.rank(&tokens)?,
            tokens: n,
        }),
    }
}

/// A query and a document as a reranker expects them. The result is that of llama.cpp's
/// server, but for a query that contains `{document}`, which stays text.
fn pair(tokenizer: &impl Tokenizer, query: &str, document: &str) -> Vec<Token> {
    let format = tokenizer.rerank_format();
    if let Some(template) = &format.template {
        return tokenizer.tokenize(&fill_in(template, query, document), false);
    }
    let mut tokens: Vec<Token> = format.begin.into_iter().collect();
    tokens.extend(tokenizer.tokenize_plain(query));
    tokens.extend(format.end);
    tokens.extend(format.separator);
    tokens.extend(tokenizer.tokenize_plain(document));
    tokens.extend(format.end);
    tokens
}

/// Replaces `{query}` and `{document}`, and nothing in what replaces them.
fn fill_in(template: &str, query: &str, document: &str) -> String {
    let (mut text, mut rest) = (String::new(), template);
    loop {
        let places = [("{query}", query), ("{document}", document)];
        let places = places.map(|(name, with)| (rest.find(name), name, with));
        let next = places
            .into_iter()
            .filter_map(|(at, name, with)| Some((at?, name, with)))
            .min();
        let Some((at, name, with)) = next else {
            text.push_str(rest);
            return text;
        };
        text.push_str(&rest[..at]);
        text.push_str(with);
        rest = &rest[at + name.len()..];
    }
}

/// The tokens of a text that this model can embed.
fn embeddable(
    backend: &impl Backend,
    input: &EmbedInput,
    truncate: bool,
) -> Result<Vec<Token>, Failure> {
    backend.info().kind.check(Use::Embedding)?;
    let most = backend.embedding_tokens_max();
    let tokens = match input.0.as_slice() {
        [PromptPart::Text(text)] if truncate => beginning(backend, text, most as usize),
        parts => parts_tokens(backend, parts, most)?,
    };
    match as_u32(tokens.len()) {
        0 => Err(Failure::invalid("it has no tokens")),
        n if n > most && !truncate => Err(Failure::new(
            FailureKind::ContextTooLong,
            format!("it has {n} tokens, at most {most} are embedded: split it"),
        )),
        _ => Ok(tokens.into_iter().take(most as usize).collect()),
    }
}

/// The tokens of texts and tokens. As in llama.cpp's server, the tokens that begin and end a
/// text are added to a text that comes first, and to nothing else.
fn parts_tokens(
    backend: &impl Backend,
    parts: &[PromptPart],
    most: u32,
) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match part {
            PromptPart::Text(text) => {
                check_length(text, most)?;
                tokens.extend(backend.tokenize(text, at == 0));
            }
            PromptPart::Tokens(more) => {
                check_known(backend, more)
                    .map_err(|what| Failure::invalid(format!("it {what}")))?;
                tokens.extend(more);
            }
        }
    }
    Ok(tokens)
}

/// What is wrong with tokens of a request that the vocabulary does not have: negative ones
/// stand for pictures in the engine.
pub(super) fn check_known(backend: &impl Backend, tokens: &[Token]) -> Result<(), String> {
    let vocabulary = backend.info().vocab_size;
    let is_known = |token: &Token| u32::try_from(*token).is_ok_and(|token| token < vocabulary);
    match tokens.iter().find(|token| !is_known(token)) {
        None => Ok(()),
        Some(token) => Err(format!(
            "contains {token}, which is no token of this model: they are from 0 to {}",
            vocabulary.saturating_sub(1)
        )),
    }
}

/// At most `most` tokens of a text: its first ones, and those that end every text.
fn beginning(backend: &impl Backend, text: &str, most: usize) -> Vec<Token> {
    // What is cut here cannot be among the first tokens, and takes long to tokenize.
    let text = &text[..text.floor_char_boundary(most.saturating_mul(BYTES_PER_TOKEN))];
    let mut tokens = backend.tokenize(text, true);
    if tokens.len() > most {
        let ends = backend.tokenize("", true);
        let ends = common_prefix(tokens.iter().rev(), ends.iter().rev()).min(most);
        let tail = tokens.split_off(tokens.len() - ends);
        tokens.truncate(most - ends);
        tokens.extend(tail);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::fill_in;

    #[test]
    fn texts_are_filled_in_once() {
        for (template, query, document, expected) in [
            ("Q: {query} D: {document}.", "a", "b", "Q: a D: b."),
            ("{document}{query}{query}", "a", "b", "baa"),
            (
                "{query}|{document}",
                "{document}",
                "{query}",
                "{document}|{query}",
            ),
            ("{quer}", "a", "b", "{quer}"),
        ] {
            assert_eq!(fill_in(template, query, document), expected);
        }
    }
}
