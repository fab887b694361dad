//! What a request has cost.

use serde::{Deserialize, Serialize};

/// Token counts and times of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of these were found in the prefix cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// How many of these are reasoning.
    #[serde(default)]
    pub reasoning_tokens: u32,
    /// Time spent on the prompt.
    pub prefill_ms: f64,
    /// Time spent on generating.
    pub decode_ms: f64,
}

impl Usage {
    /// Generated tokens per second; 0 if nothing was timed.
    pub fn tokens_per_second(&self) -> f64 {
        if self.decode_ms > 0.0 {
            f64::from(self.completion_tokens) * 1000.0 / self.decode_ms
        } else {
            0.0
        }
    }
}
