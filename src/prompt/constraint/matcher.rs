//! The state of one answer.

use std::fmt;

use llguidance::toktrie::{SimpleVob, TokenId};
use serde_json::Value;

use super::calls::{self, Watch};
use super::grammar;
use super::vocabulary::Vocabulary;
use crate::protocol::{CallFormat, Constraint, Failure, FailureKind, ToolChoice};

/// Follows one answer and says what may come next. A clone starts where the original
/// stands, so a compiled one can be kept and used again.
#[derive(Clone)]
pub struct Matcher {
    vocabulary: Vocabulary,
    /// What is enforced now; none in free text.
    grammar: Option<llguidance::Matcher>,
    /// What waits for a call in free text; none where the grammar binds all of it.
    watch: Option<Watch>,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("bound", &self.grammar.is_some())
            .field("watches", &self.watch.is_some())
            .finish_non_exhaustive()
    }
}

impl Matcher {
    /// Compiles a constraint.
    ///
    /// # Errors
    /// `InvalidSchema` saying what is wrong or which bound is exceeded, and where.
    pub fn new(vocabulary: &Vocabulary, constraint: &Constraint) -> Result<Self, Failure> {
        Ok(Self {
            grammar: Some(grammar::compile(vocabulary, constraint)?),
            watch: None,
            vocabulary: vocabulary.clone(),
        })
    }

    /// Compiles the calls of `tools` (in OpenAI form) that `choice` asks for or
    /// allows; `None` where there is nothing to watch.
    ///
    /// # Errors
    /// `InvalidSchema` naming the tool, `InvalidArgs` where the choice cannot be met.
    pub fn for_tools(
        vocabulary: &Vocabulary,
        format: CallFormat,
        tools: &[Value],
        choice: &ToolChoice,
    ) -> Result<Option<Self>, Failure> {
        calls::check(tools, choice)?;
        let (grammar, watch) = match choice {
            ToolChoice::None => return Ok(None),
            ToolChoice::Auto if tools.is_empty() => return Ok(None),
            ToolChoice::Auto => (None, Some(Watch::new(vocabulary, format, tools)?)),
            ToolChoice::Required => (
                Some(calls::required(vocabulary, format, tools, None)?),
                None,
            ),
            ToolChoice::Named(name) => (
                Some(calls::required(vocabulary, format, tools, Some(name))?),
                None,
            ),
        };
        Ok(Some(Self {
            vocabulary: vocabulary.clone(),
            grammar,
            watch,
        }))
    }

    /// Sets the logits of forbidden tokens to minus infinity.
    ///
    /// # Errors
    /// `InvalidSchema` where the constraint turns out too costly to follow.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), Failure> {
        if let Some(grammar) = &mut self.grammar {
            let allowed = grammar.compute_mask_or_eos().map_err(|error| {
                Failure::new(
                    FailureKind::InvalidSchema,
                    format!(
                        "the constraint cannot be followed any further ({}); make it simpler",
                        grammar::first_line(&error.to_string())
                    ),
                )
            })?;
            forbid(&allowed, logits);
        } else if let Some(watch) = &self.watch {
            for token in watch.forbidden(&self.vocabulary) {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    /// Moves on over the chosen token.
    ///
    /// # Errors
    /// `Internal` where [`Matcher::mask`] forbids it.
    pub fn accept(&mut self, token: i32) -> Result<(), Failure> {
        let id = TokenId::try_from(token).map_err(|_| wrong(token, "there is no such token"))?;
        if let Some(grammar) = &mut self.grammar {
            let ended = grammar.is_stopped() && self.vocabulary.trie().eos_tokens().contains(&id);
            if !ended {
                grammar
                    .consume_token(id)
                    .map_err(|error| wrong(token, &grammar::first_line(&error.to_string())))?;
            }
        } else if let Some(watch) = &mut self.watch {
            self.grammar = watch.accept(&self.vocabulary, id);
        }
        // A call is over: free text again.
        if self.watch.is_some()
            && let Some(grammar) = &mut self.grammar
            && grammar.is_accepting().is_ok_and(|over| over)
        {
            self.grammar = None;
        }
        Ok(())
    }

    /// Tokens that must come next whatever the model thinks, in the model's own
    /// tokenization; empty where there is a choice, and at the end.
    pub fn forced(&mut self) -> Vec<i32> {
        match &mut self.grammar {
            Some(grammar) if !grammar.is_stopped() => grammar
                .compute_ff_tokens()
                .into_iter()
                .filter_map(|id| i32::try_from(id).ok())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether nothing may follow any more but the end.
    pub fn is_complete(&mut self) -> bool {
        self.watch.is_none()
            && self
                .grammar
                .as_ref()
                .is_some_and(|g| g.is_stopped() && g.stop_reason().is_ok())
    }
}

fn wrong(token: i32, why: &str) -> Failure {
    Failure::new(
        FailureKind::Internal,
        format!("token {token} does not fit the constraint: {why}"),
    )
}

fn forbid(allowed: &SimpleVob, logits: &mut [f32]) {
    let words = allowed.as_slice();
    for (chunk, logits) in logits.chunks_mut(32).enumerate() {
        let word = words.get(chunk).copied().unwrap_or(0);
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
