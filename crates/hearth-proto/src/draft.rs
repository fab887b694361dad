//! Draft models: smaller models that propose tokens, which the model itself verifies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A draft model that is loaded with a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftFile {
    /// File name without `.gguf`.
    pub name: String,
    /// The GGUF file.
    pub path: PathBuf,
}
