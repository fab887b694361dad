//! Changes to the folder of imported models: receive, copy, remove.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hearth_proto::{Failure, FailureKind, check_name};
use tempfile::NamedTempFile;

use super::index::StoredModel;

/// Prefix of the names of incomplete imports; such files are deleted at startup.
pub(super) const TEMPORARY_PREFIX: &str = ".import-";
/// Bytes copied between two updates of the progress: large enough that the additional calls
/// do not slow the copy down.
const COPY_STEP: u64 = 32 << 20;

/// A copied file that has no final name yet; it is deleted on drop.
#[derive(Debug)]
pub(super) struct Import {
    file: NamedTempFile,
    target: PathBuf,
}

/// Deletes incomplete imports of an earlier process.
pub(super) fn remove_incomplete(imported: &Path) {
    for entry in fs::read_dir(imported).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that will replace another one; if it does not, it is deleted at startup at the latest.
pub(super) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(folder)
}

/// Copies `from` into the folder of imported models under a temporary name and syncs it. It
/// calls `report` with the bytes copied and those of the file; an error of it ends the copy.
///
/// # Errors
/// `InvalidArgs` for a bad name or a file that is not a regular one, `Io` when it
/// cannot be copied; the incomplete copy is deleted.
pub(super) fn receive(
    imported: &Path,
    name: &str,
    from: &mut File,
    report: impl Fn(u64, u64) -> io::Result<()>,
) -> Result<Import, Failure> {
    check_name(name)?;
    let target = imported.join(format!("{name}.gguf"));
    if target.exists() {
        return Err(taken(name));
    }
    let failed = |what: &str, e: &io::Error| {
        Failure::new(
            FailureKind::Io,
            format!(
                "cannot {what} in {}: {e}; the model was not imported",
                imported.display()
            ),
        )
    };
    let kind = from
        .metadata()
        .map_err(|e| failed("read the given file", &e))?;
    if !kind.is_file() {
        return Err(Failure::invalid(
            "the file descriptor is not a regular file",
        ));
    }
    fs::create_dir_all(imported).map_err(|e| failed("create the folder", &e))?;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .suffix(".gguf")
        .tempfile_in(imported)
        .map_err(|e| failed("write", &e))?;
    from.rewind()
        .map_err(|e| failed("read the given file", &e))?;
    let size = kind.len();
    let report = |done| report(done, size);
    copy(from, file.as_file_mut(), report).map_err(|e| failed("copy the model", &e))?;
    let permissions = fs::Permissions::from_mode(0o644);
    file.as_file()
        .set_permissions(permissions)
        .map_err(|e| failed("set permissions", &e))?;
    file.as_file()
        .sync_all()
        .map_err(|e| failed("sync the model", &e))?;
    Ok(Import { file, target })
}

/// Gives a model another name by a hard link, so that the data is stored once. The caller has
/// checked that the name is free.
///
/// # Errors
/// `InvalidArgs` for a bad name; `Io`, also if the model belongs to a package and is on
/// another file system.
pub(super) fn link(imported: &Path, model: &StoredModel, name: &str) -> Result<(), Failure> {
    check_name(name)?;
    fs::create_dir_all(imported)
        .and_then(|()| fs::hard_link(&model.path, imported.join(format!("{name}.gguf"))))
        .map_err(|e| {
            Failure::new(
                FailureKind::Io,
                format!(
                    "cannot link {}: {e}; import its file again under the new name",
                    model.path.display()
                ),
            )
        })
}

/// Deletes an imported model's file.
///
/// # Errors
/// `AccessDenied` for a packaged one; `Io`.
pub(super) fn remove(model: &StoredModel) -> Result<(), Failure> {
    if model.packaged {
        return Err(Failure::new(
            FailureKind::AccessDenied,
            format!(
                "{} belongs to a package: remove the package instead",
                model.name
            ),
        ));
    }
    fs::remove_file(&model.path).map_err(|e| {
        Failure::new(
            FailureKind::Io,
            format!("cannot remove {}: {e}", model.path.display()),
        )
    })
}

impl Import {
    /// The temporary file, to be checked.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Renames it to its final name; never replaces another file.
    ///
    /// # Errors
    /// `Io`; the file is deleted.
    pub(super) fn persist(self) -> Result<(), Failure> {
        let target = self.target;
        self.file.persist_noclobber(&target).map_err(|e| {
            Failure::new(
                FailureKind::Io,
                format!("cannot create {}: {}", target.display(), e.error),
            )
        })?;
        // The name is durable only after its folder was synced.
        if let Some(folder) = target.parent() {
            _ = File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(())
    }
}

/// Copies in the kernel, which shares the blocks where the file system supports it (btrfs,
/// XFS). It copies in steps: the client that passed the descriptor sees the progress by its
/// position, and the kernel moves that only at the end of a call.
fn copy(from: &File, to: &mut File, report: impl Fn(u64) -> io::Result<()>) -> io::Result<()> {
    let mut done = 0;
    loop {
        report(done)?;
        match io::copy(&mut from.take(COPY_STEP), to)? {
            0 => return Ok(()),
            copied => done += copied,
        }
    }
}

pub(super) fn taken(name: &str) -> Failure {
    Failure::invalid(format!(
        "a model {name:?} already exists: remove it first, or choose another name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_is_dropped_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let imported = root.path().join("imported");
        let source = root.path().join("source");
        fs::write(&source, "GGUF....").unwrap();
        let received = || {
            receive(
                &imported,
                "new",
                &mut File::open(&source).unwrap(),
                |_, _| Ok(()),
            )
        };
        drop(received().unwrap());
        assert_eq!(fs::read_dir(&imported).unwrap().count(), 0);
        received().unwrap().persist().unwrap();
        assert!(imported.join("new.gguf").exists());
        assert_eq!(received().unwrap_err().kind, FailureKind::InvalidArgs);
    }

    #[test]
    fn incomplete_imports_are_removed_at_startup() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".import-abc.gguf"), "x").unwrap();
        fs::write(root.path().join("m.gguf"), "x").unwrap();
        remove_incomplete(root.path());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
