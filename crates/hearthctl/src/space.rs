//! Checks the free disk space before a download.

use std::path::{Path, PathBuf};

use hearth_proto::units::Bytes;
use nix::sys::statvfs::statvfs;

use crate::error::{CtlError, Result};

/// Free space that is left to others.
const MARGIN: u64 = Bytes::mib(16).0;

/// Checks whether the file system of `path` has `need` bytes.
///
/// # Errors
/// `File`, with both numbers.
pub fn check(path: &Path, need: u64) -> Result {
    let Some(free) = free(path) else {
        return Ok(());
    };
    if need == 0 || need.saturating_add(MARGIN) <= free {
        return Ok(());
    }
    let message = format!(
        "{} more are needed, but {} are free on this disk: free some space, or set \
         XDG_CACHE_HOME to a directory on another disk",
        Bytes(need),
        Bytes(free)
    );
    Err(CtlError::File {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::StorageFull, message),
    })
}

/// Checks whether a model of `size` bytes, of which `missing` are still to be downloaded
/// into `downloads`, fits there and then also into the service's `store`.
///
/// # Errors
/// `File`, with the numbers.
pub fn check_both(downloads: &Path, missing: u64, store: &Path, size: u64) -> Result {
    check(downloads, missing)?;
    let Some(store) = existing(store) else {
        return Ok(());
    };
    let device = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        path.metadata().ok().map(|m| m.dev())
    };
    let shared = device(downloads) == device(&store);
    check(
        &store,
        if shared {
            size.saturating_add(missing)
        } else {
            size
        },
    )
}

fn free(path: &Path) -> Option<u64> {
    let stat = statvfs(path).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// The folder, or its nearest ancestor that is accessible.
fn existing(path: &Path) -> Option<PathBuf> {
    let mut above = path.ancestors();
    above.find(|path| path.is_dir()).map(Path::to_owned)
}
