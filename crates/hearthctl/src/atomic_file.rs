//! Output files that appear under their names when they are complete and never replace
//! another file, and temporary files.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{CtlError, Result};

/// An incomplete file: a temporary one in the target's folder, deleted when dropped.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file of `target`.
    pub fn begin(target: &Path) -> Result<Self> {
        let taken = fs::symlink_metadata(target).is_ok();
        if taken {
            return Err(exists(target));
        }
        let folder = match target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            // The usual mode of a new file; the umask applies.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder);
        let file = file.map_err(|source| CtlError::File {
            path: target.to_owned(),
            source,
        })?;
        let target = target.to_owned();
        Ok(Self { file, target })
    }

    /// Path of the temporary file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Renames it to the target.
    pub fn finish(self) -> Result {
        let Self { file, target } = self;
        let failed = |source| CtlError::File {
            path: target.clone(),
            source,
        };
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(&target)
            .map_err(|error| match error.error.kind() {
                io::ErrorKind::AlreadyExists => exists(&target),
                _ => failed(error.error),
            })?;
        Ok(())
    }
}

fn exists(target: &Path) -> CtlError {
    CtlError::Usage(format!(
        "{} already exists and is not replaced: give another name, or delete it",
        target.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let file = AtomicFile::begin(&target).unwrap();
        fs::write(file.path(), "new").unwrap();
        // Another process creates the file first.
        fs::write(&target, "old").unwrap();
        assert!(
            file.finish()
                .unwrap_err()
                .to_string()
                .contains("already exists")
        );
        assert!(AtomicFile::begin(&target).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        fs::remove_file(&target).unwrap();
        drop(AtomicFile::begin(&target).unwrap());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left"
        );
        let file = AtomicFile::begin(&target).unwrap();
        fs::write(file.path(), "new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }
}
