//! The prompt for filling in text, arranged as llama.cpp's server does it.
//!
//! With a repository: its token and a name, for each file its token, name and text, the token
//! and a name for the file to fill in. Then, in any case: the text before with the beginning
//! of the answer, the text after, and the token that asks for the text between.

use hearth_proto::{Failure, FailureKind, Infill, Snippet};

use super::backend::{InfillTokens, Token, Tokenizer};
use super::prompt::BYTES_PER_TOKEN;

/// Tokens for the texts before and after: three quarters and one quarter. llama.cpp's server
/// takes its batch size, whose default this is.
const WINDOW: usize = 2048;
/// What is said of the repository and the file, as by llama.cpp's server.
const REPOSITORY: &str = "myproject\n";
const FILE: &str = "filename\n";
/// Before the text of another file where the vocabulary has no token for that.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// How many tokens of each text are taken.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    prefix: usize,
    suffix: usize,
    extra: usize,
}

impl Room {
    /// In a context with room for an answer. llama.cpp's server leaves twice the answer's
    /// tokens; a long answer is not granted more than a quarter of the context, so that other
    /// files are not omitted for tokens that are rarely used.
    fn new(context: u32, max_tokens: Option<u32>) -> Self {
        let context = context as usize;
        let answer = (max_tokens.unwrap_or(u32::MAX) as usize).clamp(2, (context / 8).max(2));
        let window = WINDOW.min(context / 4 * 3);
        Self {
            prefix: window / 4 * 3,
            suffix: window / 4,
            extra: context.saturating_sub(window + 2 * answer),
        }
    }
}

/// The tokens of a prompt with an answer of at most `max_tokens`, in a context of this size.
/// Texts that are too long are shortened; only the beginning of the answer is not.
///
/// # Errors
/// `NotSupported` where the vocabulary has no tokens for this.
pub(super) fn tokens(
    tokenizer: &impl Tokenizer,
    infill: &Infill,
    (context, max_tokens): (u32, Option<u32>),
) -> Result<Vec<Token>, Failure> {
    let special = tokenizer.infill_tokens().ok_or_else(not_supported)?;
    let room = Room::new(context, max_tokens);
    let prompt = tokenizer.tokenize(&infill.prompt, false);
    let prefix = tokenizer.tokenize_plain(end_of(&infill.prefix, room.prefix));
    let suffix = tokenizer.tokenize_plain(beginning_of(&infill.suffix, room.suffix));
    let suffix_room = room.suffix.saturating_sub(2 + prompt.len());
    let mut tokens = match &infill.extra {
        None => Vec::new(),
        Some(extra) => repository(tokenizer, &special, extra, room.extra),
    };
    tokens.extend(special.bos);
    tokens.push(special.prefix);
    tokens.extend(last(&prefix, room.prefix));
    tokens.extend(prompt);
    tokens.push(special.suffix);
    tokens.extend(suffix.iter().take(suffix_room));
    tokens.push(special.middle);
    Ok(tokens)
}

/// The last `room` tokens of other files, and of what announces the file to fill in.
fn repository(
    tokenizer: &impl Tokenizer,
    special: &InfillTokens,
    extra: &[Snippet],
    room: usize,
) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    if let Some(token) = special.repository {
        tokens.push(token);
        tokens.extend(tokenizer.tokenize_plain(REPOSITORY));
    }
    for (snippet, text) in kept(extra, room) {
        match special.file {
            Some(token) => {
                tokens.push(token);
                let name = format!("{}\n", snippet.filename);
                tokens.extend(tokenizer.tokenize_plain(&name));
            }
            None => tokens.extend(tokenizer.tokenize_plain(SNIPPET)),
        }
        tokens.extend(tokenizer.tokenize_plain(text));
    }
    if let Some(token) = special.file {
        tokens.push(token);
        tokens.extend(tokenizer.tokenize_plain(FILE));
    }
    last(&tokens, room).copied().collect()
}

/// The last snippets, and how much of their texts is tokenized: more than has room.
fn kept(extra: &[Snippet], room: usize) -> Vec<(&Snippet, &str)> {
    let mut left = room;
    let mut kept = Vec::new();
    for snippet in extra.iter().rev() {
        if left == 0 {
            break;
        }
        let text = end_of(&snippet.text, left);
        kept.push((snippet, text));
        // A token for the file, at least.
        left = left.saturating_sub(1 + text.len() / BYTES_PER_TOKEN);
    }
    kept.reverse();
    kept
}

fn last(tokens: &[Token], room: usize) -> impl Iterator<Item = &Token> {
    tokens.iter().skip(tokens.len().saturating_sub(room))
}

/// The end of a text, with more bytes than `room` tokens have: tokenizing a long text takes
/// seconds and cannot be aborted.
fn end_of(text: &str, room: usize) -> &str {
    let mut from = text
        .len()
        .saturating_sub(room.saturating_mul(BYTES_PER_TOKEN));
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The same of its beginning.
fn beginning_of(text: &str, room: usize) -> &str {
    let mut to = text.len().min(room.saturating_mul(BYTES_PER_TOKEN));
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

fn not_supported() -> Failure {
    Failure::new(
        FailureKind::NotSupported,
        "the model's vocabulary has no tokens for filling in text: name a model that is trained \
         for it, such as Qwen2.5-Coder, or send the text before as `prompt`, without `suffix`",
    )
}

#[cfg(test)]
mod tests;
