//! Adapters that are loaded with a model.

/// An adapter of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedAdapter {
    /// The name by which requests name it.
    pub name: String,
    /// Identifies its contents; or why it could not be loaded.
    pub loaded: Result<u128, String>,
}
