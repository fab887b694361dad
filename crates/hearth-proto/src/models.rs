//! Properties of an installed model, and the rules for its name.

use serde::Serialize;

use crate::{Failure, ModelKind};

/// A model that could be loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent facts")]
pub struct ModelEntry {
    /// File name without `.gguf`.
    pub name: String,
    /// File size.
    pub size_bytes: u64,
    /// File size of its projector; 0 without one.
    pub projector_bytes: u64,
    /// `llama`, `qwen2` …; empty where the header could not be read.
    pub architecture: String,
    /// `Q8_0` …; empty where unknown.
    pub quantization: String,
    /// Context it was trained for; 0 where unknown.
    pub context_train: u32,
    /// Parameters; 0 where unknown.
    pub parameters: u64,
    /// Its kind by the header; for the loaded model, by llama.cpp. `None` if the header could
    /// not be read.
    pub kind: Option<ModelKind>,
    /// Whether a projector is installed with which it takes pictures.
    pub vision: bool,
    /// Whether a projector is installed with which it takes sounds.
    pub audio: bool,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// Whether it is used for requests that name no model.
    pub is_default: bool,
    /// Whether it came with a package and cannot be removed.
    pub packaged: bool,
    /// The file's modification time, in seconds since 1970.
    pub modified_s: u64,
    /// Why it cannot be used; empty if no problem is known.
    pub problem: String,
    /// The draft model that is in memory with it; empty without one.
    pub draft: String,
    /// The installed adapters that fit it, by name.
    pub adapters: Vec<String>,
    /// The installed models that it fits, by name, if it is an adapter.
    pub bases: Vec<String>,
    /// The model that it is derived from; empty if it is none of these.
    pub parent: String,
    /// Numbers of an embedding; 0 where unknown.
    pub width: u32,
    /// What its chat template and its vocabulary offer.
    pub features: ModelFeatures,
    /// The SHA-256 of its file, in hexadecimal; empty until it is known.
    pub sha256: String,
}

/// What a model offers beyond its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelFeatures {
    /// Its chat template describes tools.
    pub tools: bool,
    /// It may reason before it answers.
    pub thinking: bool,
    /// It can fill in text between two others.
    pub infill: bool,
}

impl ModelEntry {
    /// Size of its files: the model and its projector.
    pub fn total_bytes(&self) -> u64 {
        self.size_bytes.saturating_add(self.projector_bytes)
    }
}

/// Checks a model name: it becomes a file name and a JSON string, so only a safe set of
/// characters is allowed.
///
/// # Errors
/// `InvalidArgs`; the message lists what is allowed.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+:".contains(c);
    let fits = !name.is_empty() && name.len() <= 128 && name.chars().all(allowed);
    if fits && !name.starts_with('.') && name != "default" {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{name:?} is not a model name: use letters, digits and - _ . + : (at most 128, not beginning with a dot)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        for bad in ["", "../x", "a/b", ".hidden", "a b", "ä", "default"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("Qwen2.5-0.5B-Q4_K_M").is_ok());
    }
}
