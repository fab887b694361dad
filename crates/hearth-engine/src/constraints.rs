//! A cache of compiled constraints: clients send the same schema and the same tools with
//! every request.

use hearth_constraint::{Binding, Matcher, Vocabulary};
use hearth_proto::{Failure, GenerateRequest, Prompt};

use super::backend::Tokenizer;
use super::chat::{ChatLayer, ChatPrompt};

/// Compiled constraints in the cache; each takes about a megabyte.
const KEPT_MAX: usize = 8;

/// Compiles constraints, and caches the last ones.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    vocabulary: Option<Vocabulary>,
    /// Ordered by use, the most recent last.
    compiled: Vec<(String, Option<Matcher>)>,
}

impl Constraints {
    /// The matcher of a request; `None` where the answer is not constrained.
    pub(super) fn matcher(
        &mut self,
        tokenizer: &impl Tokenizer,
        layer: &ChatLayer,
        request: &GenerateRequest,
        prompt: Option<&ChatPrompt>,
    ) -> Result<Option<Matcher>, Failure> {
        let tools = match &request.prompt {
            Prompt::Chat { tools, .. } => tools.as_slice(),
            Prompt::Text(_) | Prompt::Mixed(_) | Prompt::Infill(_) => &[],
        };
        let is_free =
            request.constraint.is_none() && tools.is_empty() && request.reasoning_budget.is_none();
        if request.prewarm || is_free {
            return Ok(None);
        }
        let reasoning = prompt.and_then(|prompt| prompt.reasoning.clone());
        let shape = (
            &request.constraint,
            &request.tool_choice,
            (request.one_call, request.call_mode),
            request.reasoning_budget,
            tools,
            reasoning.as_ref().map(|tags| tags.is_open),
        );
        let key = serde_json::to_string(&shape).unwrap_or_default();
        if let Some(at) = self.compiled.iter().position(|(other, _)| *other == key) {
            let known = self.compiled.remove(at);
            let matcher = known.1.clone();
            self.compiled.push(known);
            return Ok(matcher);
        }
        let calls = match prompt {
            Some(prompt) => layer.call_grammar(request, tools, prompt)?,
            None => None,
        };
        let binding = Binding {
            constraint: request.constraint.clone(),
            calls,
            reasoning,
            reasoning_budget: request.reasoning_budget,
        };
        let vocabulary = match &self.vocabulary {
            Some(vocabulary) => vocabulary,
            None => self.vocabulary.insert(tokenizer.vocabulary()?),
        };
        let matcher = Matcher::bound(vocabulary, &binding)?;
        if self.compiled.len() == KEPT_MAX {
            self.compiled.remove(0);
        }
        self.compiled.push((key, matcher.clone()));
        Ok(matcher)
    }
}
