//! Tracks the reasoning of an answer, which is not constrained.

use llguidance::toktrie::TokenId;

use super::vocabulary::Vocabulary;

/// The most tokens of only whitespace between reasoning and a constrained answer.
const BLANKS_MAX: u8 = 2;
/// The whitespace that models write there.
const BLANKS: [&str; 4] = ["\n", "\n\n", " ", "\r\n"];

/// The tags around a model's reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasoningTags {
    /// The start tag; empty: the model cannot begin it.
    pub start: String,
    /// The end tags; any of them ends it.
    pub ends: Vec<String>,
    /// Texts that end it and begin the answer: a call without an end tag.
    pub answers: Vec<String>,
    /// Whether the prompt ends inside it.
    pub is_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing so far, or the beginning of the start tag.
    Before { typed: Vec<u8> },
    /// The last bytes of the reasoning, fewer than the longest end tag has.
    Inside { tail: Vec<u8> },
    /// It has ended, followed by this number of blank tokens.
    After { blanks: u8 },
    /// The answer has begun.
    Completed,
}

/// Tracks the reasoning of one answer.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    tags: ReasoningTags,
    stage: Stage,
}

/// What a token is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of the reasoning or its tags; these bytes of it already belong to the answer.
    Reasoning(Vec<u8>),
    /// The beginning of the start tag, or of an answer that begins in the same way.
    Either,
    /// Whitespace before the answer, unless the answer may begin with it.
    Blank,
    /// Part of the answer.
    Answer,
}

impl Gate {
    pub(super) fn new(tags: ReasoningTags) -> Self {
        let stage = if tags.is_open {
            Stage::Inside { tail: Vec::new() }
        } else if tags.start.is_empty() {
            Stage::Completed
        } else {
            Stage::Before { typed: Vec::new() }
        };
        Self { tags, stage }
    }

    /// Whether reasoning is in progress, without constraints.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.stage, Stage::Inside { .. })
    }

    /// Whether only the answer's own constraints apply from here on.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Completed
    }

    /// The text that ends the reasoning.
    pub(super) fn end(&self) -> &str {
        self.tags.ends.first().map_or("", String::as_str)
    }

    /// Tokens allowed in addition to those of the answer.
    pub(super) fn also_allowed(&self, vocabulary: &Vocabulary) -> Vec<TokenId> {
        match &self.stage {
            Stage::Before { typed } => {
                let rest = self.tags.start.as_bytes().get(typed.len()..).unwrap_or(b"");
                let begun = (1..=rest.len()).filter_map(|end| rest.get(..end));
                let controls = begun.clone().filter_map(|text| {
                    let name = std::str::from_utf8(text).ok()?;
                    vocabulary.special(name)
                });
                begun
                    .filter_map(|text| vocabulary.token(text))
                    .chain(controls)
                    .collect()
            }
            Stage::After { blanks } if *blanks < BLANKS_MAX => BLANKS
                .iter()
                .filter_map(|text| vocabulary.token(text.as_bytes()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Advances over a token's text.
    pub(super) fn accept(&mut self, text: &[u8]) -> Step {
        match &mut self.stage {
            Stage::Before { typed } => {
                typed.extend_from_slice(text);
                let start = self.tags.start.as_bytes();
                if start.starts_with(typed) && start.len() > typed.len() {
                    return Step::Either;
                }
                let Some(rest) = typed.strip_prefix(start).map(<[u8]>::to_vec) else {
                    self.stage = Stage::Completed;
                    return Step::Answer;
                };
                self.stage = Stage::Inside { tail: Vec::new() };
                self.inside(&rest)
            }
            Stage::Inside { .. } => self.inside(text),
            Stage::After { blanks } if text.trim_ascii().is_empty() && *blanks < BLANKS_MAX => {
                *blanks += 1;
                Step::Blank
            }
            Stage::After { .. } | Stage::Completed => {
                self.stage = Stage::Completed;
                Step::Answer
            }
        }
    }

    fn inside(&mut self, text: &[u8]) -> Step {
        let Stage::Inside { tail } = &mut self.stage else {
            return Step::Answer;
        };
        tail.extend_from_slice(text);
        let ends = self.tags.ends.iter().map(|end| (end.as_bytes(), 0));
        let answers = self.tags.answers.iter();
        let answers = answers.map(|answer| (answer.as_bytes(), answer.len()));
        let all: Vec<(&[u8], usize)> = ends.chain(answers).filter(|(e, _)| !e.is_empty()).collect();
        let found = all
            .iter()
            .filter_map(|(end, kept)| {
                let at = tail.windows(end.len()).position(|w| w == *end)?;
                Some((at, end.len(), *kept))
            })
            .min_by_key(|(at, len, _)| (*at, std::cmp::Reverse(*len)));
        let Some((at, len, kept)) = found else {
            let keep = all.iter().map(|(end, _)| end.len() - 1).max().unwrap_or(0);
            tail.drain(..tail.len().saturating_sub(keep));
            return Step::Reasoning(Vec::new());
        };
        let rest = tail.get(at + len - kept..).unwrap_or_default().to_vec();
        self.stage = Stage::After { blanks: 0 };
        let blank = rest.trim_ascii().is_empty();
        Step::Reasoning(if blank { Vec::new() } else { rest })
    }
}
