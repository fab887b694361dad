//! A request as a client makes it.

use std::time::Duration;

use crate::{GenerateRequest, Prompt};

/// One request, decoded and not yet accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The request; the service sets `id`, `uid` and a missing seed.
    pub request: GenerateRequest,
    /// The model's name; `None`: the loaded or default one.
    pub model: Option<String>,
    /// Time after submission at which the request fails.
    pub deadline: Option<Duration>,
    /// The text that a base model continues instead of the prompt, since it has no chat
    /// template.
    pub base_text: Option<String>,
}

impl Submission {
    /// A request with only its prompt set.
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

/// How long a model stays in memory after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For this long; zero: it may be unloaded at once.
    For(Duration),
    /// Until it is unloaded explicitly.
    Forever,
}
