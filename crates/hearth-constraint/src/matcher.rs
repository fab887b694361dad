//! Matching state of one answer.

use std::fmt;

use hearth_proto::{Constraint, Failure, FailureKind};
use llguidance::toktrie::{SimpleVob, TokenId};

use super::calls::{self, CallGrammar};
use super::error::first_line;
use super::grammar;
use super::reasoning::{Gate, ReasoningTags, Step};
use super::vocabulary::Vocabulary;
use super::watch::{self, Watch};

/// The constraints on an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Binding {
    /// The constraint on the whole answer.
    pub constraint: Option<Constraint>,
    /// The form of tool calls, if tools are offered.
    pub calls: Option<CallGrammar>,
    /// The tags of unconstrained reasoning before the answer.
    pub reasoning: Option<ReasoningTags>,
    /// The most tokens of reasoning, after which it is ended.
    pub reasoning_budget: Option<u32>,
}

/// Tracks one answer and determines which tokens may come next. A clone starts in the
/// original's state, so a compiled one can be cached and reused.
#[derive(Clone)]
pub struct Matcher {
    vocabulary: Vocabulary,
    reasoning: Option<Gate>,
    /// Tokens of reasoning left; `None`: as many as the model wants.
    budget: Option<u32>,
    /// Matchers that the answer may still satisfy; none in free text.
    forms: Vec<llguidance::Matcher>,
    /// Watches for a call in free text; none if a matcher covers the whole answer.
    watch: Option<Watch>,
    /// Set while the text so far may be the start tag of reasoning, or the answer itself.
    start: Option<Start>,
}

/// The matchers before text that may be a start tag.
#[derive(Clone)]
struct Start {
    forms: Vec<llguidance::Matcher>,
    /// Whether some matcher has accepted the text so far.
    fits: bool,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("forms", &self.forms.len())
            .field("watches", &self.watch.is_some())
            .finish_non_exhaustive()
    }
}

impl Matcher {
    /// Compiles a constraint on a whole answer.
    ///
    /// # Errors
    /// `InvalidSchema` with the error or the exceeded bound, and its position.
    pub fn new(vocabulary: &Vocabulary, constraint: &Constraint) -> Result<Self, Failure> {
        let form = grammar::compile(vocabulary, constraint)?;
        Ok(Self::of(vocabulary, vec![form], None))
    }

    /// Compiles all constraints on an answer; `None` if there are none.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn bound(vocabulary: &Vocabulary, binding: &Binding) -> Result<Option<Self>, Failure> {
        let mut forms = Vec::new();
        let mut watch = None;
        match (&binding.constraint, &binding.calls) {
            (None, None) if binding.reasoning_budget.is_none() => return Ok(None),
            (None, None) => {}
            (_, Some(calls)) if calls.is_forced => forms.push(calls::compile(vocabulary, calls)?),
            (None, Some(calls)) => {
                watch = Some(Watch::new(vocabulary, calls, binding.reasoning.as_ref())?);
            }
            (Some(constraint), calls) => {
                forms.push(grammar::compile(vocabulary, constraint)?);
                if let Some(calls) = calls {
                    forms.push(calls::compile(vocabulary, calls)?);
                }
            }
        }
        Ok(Some(Self {
            reasoning: binding.reasoning.clone().map(Gate::new),
            budget: binding.reasoning_budget,
            ..Self::of(vocabulary, forms, watch)
        }))
    }

    fn of(vocabulary: &Vocabulary, forms: Vec<llguidance::Matcher>, watch: Option<Watch>) -> Self {
        Self {
            vocabulary: vocabulary.clone(),
            reasoning: None,
            budget: None,
            forms,
            watch,
            start: None,
        }
    }

    /// Sets the logits of forbidden tokens to minus infinity.
    ///
    /// # Errors
    /// `InvalidSchema` where the constraint turns out to be too costly to match.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), Failure> {
        if self.reasoning.as_ref().is_some_and(Gate::is_inside) {
            // If an answer is required, it must not end during the reasoning.
            if !self.forms.is_empty() {
                for end in self.vocabulary.trie().eos_tokens() {
                    set_out(*end, logits);
                }
            }
            return Ok(());
        }
        if let Some(watch) = &self.watch {
            for token in watch.forbidden(&self.vocabulary) {
                set_out(token, logits);
            }
            return Ok(());
        }
        if self.forms.is_empty() {
            return Ok(());
        }
        let mut allowed: Option<SimpleVob> = None;
        let goes_along = self.start.as_ref().is_none_or(|start| start.fits);
        for form in self.forms.iter_mut().filter(|_| goes_along) {
            let mask = form.compute_mask_or_eos().map_err(|error| {
                Failure::new(
                    FailureKind::InvalidSchema,
                    format!(
                        "the constraint cannot be followed any further ({}); make it simpler",
                        first_line(&error.to_string())
                    ),
                )
            })?;
            match &mut allowed {
                None => allowed = Some(mask),
                Some(allowed) => allowed.or(&mask),
            }
        }
        let mut allowed = allowed.unwrap_or_else(|| self.vocabulary.trie().alloc_token_set());
        if let Some(gate) = &self.reasoning {
            for token in gate.also_allowed(&self.vocabulary) {
                allowed.allow_token(token);
            }
        }
        forbid(&allowed, logits);
        Ok(())
    }

    /// Advances over the chosen token.
    ///
    /// # Errors
    /// `Internal` where [`Matcher::mask`] forbids it.
    pub fn accept(&mut self, token: i32) -> Result<(), Failure> {
        let id = TokenId::try_from(token).map_err(|_| wrong(token, "there is no such token"))?;
        if self.reasoning.as_ref().is_some_and(Gate::is_inside) {
            self.budget = self.budget.map(|left| left.saturating_sub(1));
        }
        let step = match &mut self.reasoning {
            Some(gate) if !gate.is_over() => gate.accept(self.vocabulary.text(id)),
            _ => Step::Answer,
        };
        match step {
            Step::Reasoning(rest) => {
                if let Some(start) = self.start.take() {
                    self.forms = start.forms;
                }
                self.answer_begins(&rest)
            }
            Step::Answer => {
                self.start = None;
                self.answer(id)
            }
            Step::Either => self.either(id),
            Step::Blank if self.watch.is_none() && self.fitting(id).is_empty() => Ok(()),
            Step::Blank => self.answer(id),
        }
    }

    /// While text matches both the start tag and an answer, both are tracked until one is
    /// certain.
    fn either(&mut self, id: TokenId) -> Result<(), Failure> {
        if self.watch.is_some() {
            return self.answer(id);
        }
        let fits = !self.fitting(id).is_empty();
        let forms = &self.forms;
        let start = self.start.get_or_insert_with(|| Start {
            forms: forms.clone(),
            fits: true,
        });
        start.fits &= fits;
        if start.fits { self.answer(id) } else { Ok(()) }
    }

    /// The token that ended the reasoning contains the first bytes of the answer.
    fn answer_begins(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        let vocabulary = &self.vocabulary;
        if self.watch.is_none() && self.forms.is_empty() {
            return Ok(());
        }
        if let Some(watch) = &mut self.watch {
            if let Some(call) = watch.accept(vocabulary, bytes) {
                self.forms = vec![call];
                self.watch = None;
            }
            return Ok(());
        }
        self.forms
            .retain_mut(|form| watch::feed(vocabulary, form, bytes));
        if self.forms.is_empty() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            return Err(Failure::new(
                FailureKind::Internal,
                format!(
                    "after its reasoning the model wrote {text:?}, which the constraint forbids"
                ),
            ));
        }
        Ok(())
    }

    fn answer(&mut self, id: TokenId) -> Result<(), Failure> {
        if self.watch.is_none() && self.forms.is_empty() {
            return Ok(());
        }
        if let Some(watch) = &mut self.watch {
            if let Some(call) = watch.accept(&self.vocabulary, self.vocabulary.text(id)) {
                // Calls end an answer: the chat layer does not parse text after them.
                self.forms = vec![call];
                self.watch = None;
            }
            return Ok(());
        }
        let is_end = self.vocabulary.trie().eos_tokens().contains(&id);
        if is_end && self.forms.iter().any(llguidance::Matcher::is_stopped) {
            return Ok(());
        }
        let fitting = self.fitting(id);
        if !fitting.is_empty() {
            let mut at = 0..;
            self.forms
                .retain(|_| at.next().is_some_and(|n| fitting.contains(&n)));
        }
        for form in &mut self.forms {
            form.consume_token(id)
                .map_err(|error| wrong(id, &first_line(&error.to_string())))?;
        }
        Ok(())
    }

    /// The matchers that accept a token.
    fn fitting(&mut self, id: TokenId) -> Vec<usize> {
        let fits = |form: &mut llguidance::Matcher| form.validate_tokens(&[id]).ok() == Some(1);
        let forms = self.forms.iter_mut().enumerate();
        forms
            .filter_map(|(n, form)| fits(form).then_some(n))
            .collect()
    }

    /// Tokens that must come next whatever the model prefers, in the model's own
    /// tokenization; empty if there is a choice, and at the end.
    pub fn forced(&mut self) -> Vec<i32> {
        if let Some(gate) = &self.reasoning
            && !gate.is_over()
        {
            return match self.budget {
                Some(0) if gate.is_inside() => self.vocabulary.tokens(gate.end()),
                _ => Vec::new(),
            };
        }
        match self.forms.as_mut_slice() {
            [form] if !form.is_stopped() => form
                .compute_ff_tokens()
                .into_iter()
                .filter_map(|id| i32::try_from(id).ok())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether only the end may follow.
    pub fn is_complete(&mut self) -> bool {
        let is_over = |form: &llguidance::Matcher| form.is_stopped() && form.stop_reason().is_ok();
        self.watch.is_none() && !self.forms.is_empty() && self.forms.iter().all(is_over)
    }
}

fn set_out(token: TokenId, logits: &mut [f32]) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}

fn wrong(token: impl fmt::Display, why: &str) -> Failure {
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
