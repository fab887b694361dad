//! What an engine answers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{AnswerPart, Failure, FailureKind, GenerateRequest, Prompt, PromptPart};

/// The time for a token after `!slow`.
const SLOW_TOKEN: Duration = Duration::from_millis(20);

/// One step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A token that completes these parts.
    Token(Vec<AnswerPart>),
    /// From here on, this time for each token.
    Pace(Duration),
    /// The engine ends without a word.
    Crash,
    /// The engine makes no progress any more.
    Hang,
    /// The request fails.
    Fail(Failure),
}

impl Step {
    /// A token with this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Token(vec![AnswerPart::Content(text.into())])
    }
}

/// A function from a request to the steps of its answer. A request that continues an
/// earlier answer gets the same steps; the engine leaves out the tokens that were sent.
#[derive(Clone)]
pub struct Answers(Arc<Function>);

type Function = dyn Fn(&GenerateRequest) -> Vec<Step> + Send + Sync;

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

impl Answers {
    /// Answers by a function.
    pub fn new(answer: impl Fn(&GenerateRequest) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// The same steps for every request.
    pub fn fixed(steps: Vec<Step>) -> Self {
        Self::new(move |_| steps.clone())
    }

    pub(crate) fn of(&self, request: &GenerateRequest) -> Vec<Step> {
        (self.0)(request)
    }
}

/// The text that a request ends with: that of its last message, or its whole text.
/// A token is a character.
pub(crate) fn asked(request: &GenerateRequest) -> Cow<'_, str> {
    let text = match &request.prompt {
        Prompt::Mixed(parts) => return parts.iter().map(part).collect(),
        Prompt::Text(text) => text,
        Prompt::Infill(infill) => &infill.prefix,
        Prompt::Chat { messages, .. } => messages.last().map_or("", |m| m.content.as_str()),
    };
    text.into()
}

pub(crate) fn part(part: &PromptPart) -> String {
    match part {
        PromptPart::Text(text) => text.clone(),
        PromptPart::Tokens(tokens) => tokens.iter().copied().map(character).collect(),
    }
}

/// The character that is a token.
pub(crate) fn character(token: i32) -> char {
    let character = u32::try_from(token).ok().and_then(char::from_u32);
    character.unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Repeats the last message, a token for each character. Words in it cause faults where
/// they begin: `!crash`, `!hang`, `!fail`, and `!slow` for 20 ms for each token from there
/// on, as in the engine's own backend for tests.
pub fn echo(request: &GenerateRequest) -> Vec<Step> {
    let text = asked(request);
    let mut steps = Vec::new();
    for (at, character) in text.char_indices() {
        let rest = &text[at..];
        let fault = match rest {
            rest if rest.starts_with("!crash") => Some(Step::Crash),
            rest if rest.starts_with("!hang") => Some(Step::Hang),
            rest if rest.starts_with("!slow") => Some(Step::Pace(SLOW_TOKEN)),
            rest if rest.starts_with("!fail") => Some(Step::Fail(Failure::new(
                FailureKind::Internal,
                "the prompt says so",
            ))),
            _ => None,
        };
        steps.extend(fault);
        steps.push(Step::text(character));
    }
    steps
}
