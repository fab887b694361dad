//! Small files in which the daemon keeps what it knows: written atomically, and read within a
//! bound.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// The bytes of a file; a larger one was not written by the daemon.
///
/// # Errors
/// Those of reading; it is too large.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > bytes_max {
        return Err(io::Error::other("the file is too large"));
    }
    fs::read(path)
}

/// Writes a text and the end of its line to a temporary file, which then gets its name.
///
/// # Errors
/// Those of writing; the file of this name is still the old one.
pub(crate) fn write(mut file: NamedTempFile, path: &Path, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
