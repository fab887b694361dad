//! The prefix cache on disk. A file holds the keys and values of one prompt prefix, so
//! that it need not be computed again for the first answer after a restart.
//!
//! The engine writes and reads the files ([`Folder`]); the daemon only lists, checks
//! and deletes them ([`list`], [`verify`], [`clear`]). Nothing in a file is used before
//! its checksums are verified: the payload goes to C++ code that trusts it.

mod file;
mod folder;
mod ledger;
mod model;

pub use file::{CacheError, Header};
pub use folder::{Folder, Found, Identity, Pending};
pub use model::fingerprint;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Extension of the files.
const EXTENSION: &str = "kv";

/// One cached prefix, as the daemon shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Its header, or why it cannot be used.
    pub header: Result<Header, String>,
}

/// All cached prefixes, by name; empty if the folder cannot be read.
pub fn list(folder: &Path) -> Vec<Listed> {
    let mut listed: Vec<Listed> = files(folder)
        .into_iter()
        .filter_map(|path| {
            let meta = fs::metadata(&path).ok()?;
            Some(Listed {
                bytes: meta.len(),
                used: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                header: file::read_header(&path).map_err(|e| e.to_string()),
                path,
            })
        })
        .collect();
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    listed
}

/// Reads a cached prefix completely and verifies its checksums.
///
/// # Errors
/// Why it cannot be used.
pub fn verify(path: &Path) -> Result<Header, CacheError> {
    file::read(path).map(|(header, _)| header)
}

/// Deletes the cached prefixes for which `wanted` returns true; returns how many.
///
/// # Errors
/// That of the first file that cannot be deleted; the others are tried nevertheless.
pub fn clear(folder: &Path, wanted: impl Fn(&Listed) -> bool) -> std::io::Result<u32> {
    let mut cleared = 0;
    let mut result = Ok(());
    for listed in list(folder).into_iter().filter(|l| wanted(l)) {
        match fs::remove_file(&listed.path) {
            Ok(()) => cleared += 1,
            Err(error) if result.is_ok() => result = Err(error),
            Err(_) => {}
        }
    }
    result.map(|()| cleared)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == EXTENSION))
        .collect()
}
