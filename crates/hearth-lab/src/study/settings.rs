//! What the study measures: its questions, their forms, and the settings of the user.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The questions; the form with one prompt uses the first only.
pub(super) const QUESTIONS: [&str; 3] = [
    "What is the capital of Italy?",
    "What is the largest planet in the solar system?",
    "What is the chemical formula of water?",
];

/// Appended to each question if all answers are to have the same length.
pub(super) const AT_LENGTH: &str = "Answer at length.";

/// Maximum tokens of an answer whose length is up to the model: a model may never stop.
const ANSWER_MAX: u32 = 256;

/// How many questions a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    One,
    Three,
}

/// All forms.
pub const FORMS: [Form; 2] = [Form::One, Form::Three];

impl Form {
    /// The name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one prompt",
            Self::Three => "three prompts",
        }
    }

    pub(super) fn questions(self) -> &'static [&'static str] {
        match self {
            Self::One => &QUESTIONS[..1],
            Self::Three => &QUESTIONS,
        }
    }
}

/// What is reset between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// Nothing: the server may use its prompt cache.
    None,
    /// The conversation: no prompt cache matches.
    Prompt,
    /// The conversation and the model.
    Unload,
}

/// The settings of the user.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Measured runs of each form.
    pub runs: u32,
    /// Tokens of every answer; the model ends it if `None`.
    pub tokens: Option<u32>,
    /// What is reset before each run.
    pub reset: Reset,
    /// Time limit of an answer.
    pub timeout: Duration,
}

/// In one line, e.g. as the title of a plot.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs, ", self.runs)?;
        match self.tokens {
            Some(tokens) => write!(f, "answers of {tokens} tokens, ")?,
            None => f.write_str("the model ends its answers, ")?,
        }
        f.write_str(match self.reset {
            Reset::None => "nothing reset",
            Reset::Prompt => "a new conversation each time",
            Reset::Unload => "model unloaded before each run",
        })
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// A system prompt that no earlier conversation had.
    pub opening: Option<String>,
    /// The user's message.
    pub text: String,
    /// Maximum tokens of the answer.
    pub tokens: u32,
    /// Whether the answer must have exactly that many tokens.
    pub fixed_length: bool,
}

impl Question {
    /// The question of a conversation with this number.
    pub fn new(settings: &Settings, text: &str, conversation: u64) -> Self {
        let fresh = settings.reset != Reset::None;
        Self {
            opening: fresh.then(|| opening(conversation)),
            text: match settings.tokens {
                Some(_) => format!("{text} {AT_LENGTH}"),
                None => text.to_owned(),
            },
            tokens: settings.tokens.unwrap_or(ANSWER_MAX),
            fixed_length: settings.tokens.is_some(),
        }
    }
}

/// A system prompt that differs from all others from its first characters on, so that no
/// prompt cache matches. The multiplier is Knuth's (The Art of Computer Programming,
/// 6.4): it makes successive numbers differ in their leading digits.
fn opening(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{mixed:016x} is the number of this conversation.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_conversation_begins_like_another() {
        let mut openings: Vec<String> = (1000..2000).map(opening).collect();
        openings.sort();
        let alike = |pair: &[String]| {
            let both = pair[0].chars().zip(pair[1].chars());
            both.take_while(|(a, b)| a == b).count()
        };
        assert!(openings.windows(2).all(|pair| alike(pair) < 6));
        assert_eq!(openings[0].len(), openings[999].len());
    }
}
