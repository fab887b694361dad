//! Real models, if `tests/models/fetch.sh` has fetched them.

use std::env;
use std::path::{Path, PathBuf};

use super::not_checked::not_checked;

/// Their folder: `$HEARTH_MODELS`, otherwise `target/models`.
pub fn folder() -> PathBuf {
    let target = || {
        let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        target.unwrap_or_else(|| workspace().join("target"))
    };
    env::var_os("HEARTH_MODELS").map_or_else(|| target().join("models"), PathBuf::from)
}

/// The folder of the workspace, which is that of the package or two levels above it.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = package.ancestors().find(|p| p.join("Cargo.lock").is_file());
    found.unwrap_or(package)
}

/// The model file whose name in `tests/models/models.lock` begins with `name`. A missing
/// file is reported.
///
/// # Panics
/// If the lock file has no such model.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let file = include_str!("../models/models.lock")
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|file| !file.starts_with('#') && file.starts_with(name))
        .unwrap_or_else(|| panic!("models.lock has no {name}"));
    let path = folder().join(file);
    if path.is_file() {
        return Some(path);
    }
    not_checked(&format!(
        "with {file}: it is not in {} (tests/models/fetch.sh {name})",
        folder().display()
    ));
    None
}
