//! A request as a client makes it.

use std::time::Duration;

use crate::{GenerateRequest, Prompt};

/// One request, decoded and not yet accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The request; the service sets `id`, `uid` and a seed where there is none.
    pub request: GenerateRequest,
    /// Model by name; `None` takes the loaded or default one.
    pub model: Option<String>,
    /// Give up this long after submission.
    pub deadline: Option<Duration>,
    /// What a base model continues instead of the prompt: it has no chat template.
    pub base_text: Option<String>,
}

impl Submission {
    /// A request with nothing set but its prompt.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            request: GenerateRequest {
                prompt,
                ..GenerateRequest::default()
            },
            ..Self::default()
        }
    }
}

/// How long a model is to stay after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; zero: it may go at once.
    For(Duration),
    /// Until somebody unloads it.
    Forever,
}
