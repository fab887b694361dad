//! Where the reasoning of a model goes.

use serde::{Deserialize, Serialize};

/// Where the reasoning is in an answer, in llama-server's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningFormat {
    /// Apart from the text.
    #[default]
    Deepseek,
    /// In the text, between its tags.
    None,
    /// In both.
    DeepseekLegacy,
}

impl ReasoningFormat {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
