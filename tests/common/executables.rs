//! Executables of other packages of the workspace.

use std::path::{Path, PathBuf};

/// The executable `name`, which Cargo builds into the folder of `own`.
///
/// # Panics
/// If it does not exist: `cargo test -p` builds the executables of one package only.
pub fn beside(own: &str, name: &str) -> PathBuf {
    let path = Path::new(own).with_file_name(name);
    assert!(
        path.is_file(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}
