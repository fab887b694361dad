//! What requests demand of their answers, compiled once and used again: clients send the
//! same schema and the same tools with every request.

use super::backend::Backend;
use crate::prompt::constraint::{Matcher, Vocabulary};
use crate::protocol::{Failure, GenerateRequest, Prompt, ToolChoice};

/// Compiled constraints kept; each takes about a megabyte.
const KEPT_MAX: usize = 8;

/// Compiles constraints, and remembers the last ones.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    vocabulary: Option<Vocabulary>,
    /// The one used last is the last.
    compiled: Vec<(String, Matcher)>,
}

impl Constraints {
    /// The matcher of a request; `None` where anything may come.
    pub(super) fn matcher<B: Backend>(
        &mut self,
        backend: &B,
        request: &GenerateRequest,
    ) -> Result<Option<Matcher>, Failure> {
        let tools = match &request.prompt {
            Prompt::Chat { tools, .. } => tools.as_slice(),
            Prompt::Text(_) => &[],
        };
        let choice = &request.tool_choice;
        let must_call = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
        if request.prewarm
            || request.constraint.is_none()
                && (*choice == ToolChoice::None || tools.is_empty() && !must_call)
        {
            return Ok(None);
        }
        let key = serde_json::to_string(&(&request.constraint, choice, tools)).unwrap_or_default();
        if let Some(at) = self.compiled.iter().position(|(other, _)| *other == key) {
            let known = self.compiled.remove(at);
            let matcher = known.1.clone();
            self.compiled.push(known);
            return Ok(Some(matcher));
        }
        let vocabulary = match &self.vocabulary {
            Some(vocabulary) => vocabulary,
            None => self.vocabulary.insert(backend.vocabulary()?),
        };
        let matcher = match &request.constraint {
            Some(constraint) if !must_call => Some(Matcher::new(vocabulary, constraint)?),
            _ => Matcher::for_tools(vocabulary, backend.info().call_format, tools, choice)?,
        };
        if let Some(matcher) = &matcher {
            if self.compiled.len() == KEPT_MAX {
                self.compiled.remove(0);
            }
            self.compiled.push((key, matcher.clone()));
        }
        Ok(matcher)
    }
}
