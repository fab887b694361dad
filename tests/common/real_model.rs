//! Real models for tests: where they lie, if they are here.

use std::path::{Path, PathBuf};

use super::not_checked::not_checked;

/// A real model by the name of its file, in `HEARTH_MODELS`, else in `target/models`.
/// Where it is not there, that is said.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HEARTH_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    not_checked(&format!("{name}: it is not in {}", folder.display()));
    None
}
