//! LoRA adapters: those that a request applies, and those that a model is loaded with.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The most adapters that a model is loaded with, and that one request names.
pub const ADAPTERS_MAX: usize = 16;

/// An adapter that a request applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Which adapter.
    pub adapter: AdapterRef,
    /// How strongly: 1 as it was trained, 0 not at all.
    pub scale: f32,
}

/// How a request names an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterRef {
    /// By its place in the list of the model's adapters, from 0. The daemon replaces it with the
    /// name.
    Id(u32),
    /// By its name.
    Name(String),
}

impl fmt::Display for AdapterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "number {id}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// An adapter that is loaded with its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterFile {
    /// File name without `.gguf`.
    pub name: String,
    /// The GGUF file.
    pub path: PathBuf,
    /// Its size, which is also the memory that it takes.
    pub bytes: u64,
}

/// Which requests may share computed prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheScope {
    /// The user; `None`: shared by all users.
    pub uid: Option<u32>,
    /// Identifies the adapters with their scales; 0: none.
    pub adapters: u64,
}

impl CacheScope {
    /// Whether a request of this scope may use what another scope has.
    pub fn may_use(self, other: Self) -> bool {
        self.adapters == other.adapters && (other.uid.is_none() || other.uid == self.uid)
    }
}

impl From<Option<u32>> for CacheScope {
    /// Without adapters.
    fn from(uid: Option<u32>) -> Self {
        Self { uid, adapters: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_scopes_separate_users_and_adapters() {
        let scope = |uid, adapters| CacheScope { uid, adapters };
        let mine = scope(Some(1), 7);
        assert!(mine.may_use(mine) && mine.may_use(scope(None, 7)));
        for other in [scope(Some(2), 7), scope(Some(1), 0), scope(None, 8)] {
            assert!(!mine.may_use(other), "{other:?}");
        }
        assert!(!scope(None, 7).may_use(mine));
    }
}
