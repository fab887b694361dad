//! The folders with model files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::NamedTempFile;

use crate::gguf::{Header, read_header};
use crate::protocol::{Failure, FailureKind, check_name};

/// Prefix of the names of incomplete imports; such files are deleted at the start.
const TEMPORARY_PREFIX: &str = ".import-";
/// Bytes copied between two updates of the progress: large enough to cost nothing.
const COPY_STEP: u64 = 32 << 20;

/// The writable folder of imported models and the read-only one of packages.
#[derive(Debug)]
pub struct Store {
    imported: PathBuf,
    packaged: PathBuf,
    /// Headers by path, size and time: reading a large vocabulary for each `/api/tags`
    /// would be slow on a board.
    headers: Mutex<HashMap<Version, Result<Header, String>>>,
}

/// One version of a file: path, size, seconds of its last change.
type Version = (PathBuf, u64, u64);

/// An installed model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// File name without `.gguf`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Seconds since 1970 of its last change.
    pub modified_s: u64,
    /// Whether it came with a package.
    pub packaged: bool,
    /// What its header says, or why it cannot be read.
    pub header: Result<Header, String>,
}

/// A copied file that has no final name yet; it is deleted on drop.
#[derive(Debug)]
pub struct Import {
    file: NamedTempFile,
    target: PathBuf,
}

impl Store {
    /// Opens a store over both folders; incomplete imports of an earlier process are
    /// deleted.
    pub fn open(imported: impl Into<PathBuf>, packaged: impl Into<PathBuf>) -> Self {
        let store = Self {
            imported: imported.into(),
            packaged: packaged.into(),
            headers: Mutex::default(),
        };
        for entry in fs::read_dir(&store.imported)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(TEMPORARY_PREFIX.as_bytes())
            {
                _ = fs::remove_file(entry.path());
            }
        }
        store
    }

    /// All models by name; an imported one hides a packaged one of the same name.
    pub fn list(&self) -> Vec<StoredModel> {
        let mut models: Vec<StoredModel> = Vec::new();
        for (folder, packaged) in [(&self.imported, false), (&self.packaged, true)] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Some(model) = self.describe(&entry.path(), packaged)
                    && !models.iter().any(|m| m.name == model.name)
                {
                    models.push(model);
                }
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    /// Finds a model. An empty name means the default: `configured` if set, else
    /// the only imported one, else the smallest packaged one.
    ///
    /// # Errors
    /// `ModelNotFound`, naming the installed models.
    pub fn resolve(&self, name: &str, configured: &str) -> Result<StoredModel, Failure> {
        let models = self.list();
        let name = if name.is_empty() || name == "default" {
            configured
        } else {
            name
        };
        let found = if name.is_empty() {
            let mut imported = models.iter().filter(|m| !m.packaged);
            match (imported.next(), imported.next()) {
                (Some(only), None) => Some(only),
                _ => models
                    .iter()
                    .filter(|m| m.packaged)
                    .min_by_key(|m| m.size_bytes),
            }
        } else {
            let name = name.strip_suffix(":latest").unwrap_or(name);
            models.iter().find(|m| m.name == name)
        };
        found.cloned().ok_or_else(|| not_found(name, &models))
    }

    /// Copies `from` into the store's folder under a temporary name and syncs it.
    ///
    /// # Errors
    /// `InvalidArgs` for a bad name or a file that is not a regular one, `Io` when it
    /// cannot be copied (disk full: nothing is left behind).
    pub fn receive(&self, name: &str, from: &mut File) -> Result<Import, Failure> {
        check_name(name)?;
        let target = self.imported.join(format!("{name}.gguf"));
        if target.exists() {
            return Err(taken(name));
        }
        let failed = |what: &str, e: &io::Error| {
            Failure::new(
                FailureKind::Io,
                format!(
                    "cannot {what} in {}: {e}; nothing was kept",
                    self.imported.display()
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
        fs::create_dir_all(&self.imported).map_err(|e| failed("make the folder", &e))?;
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(".gguf")
            .tempfile_in(&self.imported)
            .map_err(|e| failed("write", &e))?;
        from.rewind()
            .map_err(|e| failed("read the given file", &e))?;
        copy(from, file.as_file_mut()).map_err(|e| failed("copy the model", &e))?;
        let permissions = fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(permissions)
            .map_err(|e| failed("set permissions", &e))?;
        file.as_file()
            .sync_all()
            .map_err(|e| failed("sync the model", &e))?;
        Ok(Import { file, target })
    }

    /// Gives a model one more name: a hard link, so the data is stored once.
    ///
    /// # Errors
    /// `ModelNotFound`; `InvalidArgs` for a bad name or one that is in use; `Io`, also if
    /// the model came with a package and lies on another file system.
    pub fn copy(&self, source: &str, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        let model = self.resolve(source, source)?;
        if self.list().iter().any(|other| other.name == name) {
            return Err(taken(name));
        }
        fs::create_dir_all(&self.imported)
            .and_then(|()| fs::hard_link(&model.path, self.imported.join(format!("{name}.gguf"))))
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
    /// `ModelNotFound`; `AccessDenied` for a packaged one; `Io`.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let model = self.resolve(name, name)?;
        if model.packaged {
            return Err(Failure::new(
                FailureKind::AccessDenied,
                format!("{name} came with a package: remove the package instead"),
            ));
        }
        fs::remove_file(&model.path).map_err(|e| {
            Failure::new(
                FailureKind::Io,
                format!("cannot remove {}: {e}", model.path.display()),
            )
        })
    }

    fn describe(&self, path: &Path, packaged: bool) -> Option<StoredModel> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        if name.starts_with('.') {
            return None;
        }
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let modified_s = modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        Some(StoredModel {
            name: name.to_owned(),
            path: path.to_owned(),
            size_bytes: meta.len(),
            modified_s,
            packaged,
            header: self.header(path, meta.len(), modified_s),
        })
    }

    fn header(&self, path: &Path, size: u64, modified_s: u64) -> Result<Header, String> {
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers
            .entry((path.to_owned(), size, modified_s))
            .or_insert_with(|| {
                let file = File::open(path).map_err(|e| e.to_string())?;
                read_header(&mut BufReader::new(file)).map_err(|e| e.to_string())
            })
            .clone()
    }
}

impl Import {
    /// The temporary file, to be checked.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Renames it to its final name; never replaces another file.
    ///
    /// # Errors
    /// `Io`; the file is deleted.
    pub fn keep(self) -> Result<(), Failure> {
        let target = self.target;
        self.file.persist_noclobber(&target).map_err(|e| {
            Failure::new(
                FailureKind::Io,
                format!("cannot name {}: {}", target.display(), e.error),
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
fn copy(from: &File, to: &mut File) -> io::Result<()> {
    while io::copy(&mut from.take(COPY_STEP), to)? > 0 {}
    Ok(())
}

fn taken(name: &str) -> Failure {
    Failure::invalid(format!(
        "there is a model {name:?} already: remove it first, or choose another name"
    ))
}

fn not_found(name: &str, models: &[StoredModel]) -> Failure {
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let message = if models.is_empty() {
        "no model is installed: get one with `hearthctl pull` or `hearthctl import FILE`".to_owned()
    } else if name.is_empty() {
        format!(
            "several models are installed, name one or set `model.default`: {}",
            names.join(", ")
        )
    } else {
        format!(
            "there is no model {name:?}; installed: {}",
            names.join(", ")
        )
    };
    Failure::new(FailureKind::ModelNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("imported"), root.path().join("packaged"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        (root, Store::open(a, b))
    }

    #[test]
    fn the_default_is_the_only_import_else_the_smallest_packaged() {
        let (_root, store) = folders();
        assert_eq!(
            store.resolve("", "").unwrap_err().kind,
            FailureKind::ModelNotFound
        );
        fs::write(store.packaged.join("big.gguf"), "xxxx").unwrap();
        fs::write(store.packaged.join("small.gguf"), "x").unwrap();
        assert_eq!(store.resolve("", "").unwrap().name, "small");
        fs::write(store.imported.join("mine.gguf"), "xx").unwrap();
        assert_eq!(store.resolve("", "").unwrap().name, "mine");
        assert_eq!(store.resolve("default", "big").unwrap().name, "big");
        assert_eq!(store.resolve("big:latest", "").unwrap().name, "big");
        let error = store.resolve("nope", "").unwrap_err();
        assert!(
            error.message.contains("installed: big, mine, small"),
            "{error}"
        );
    }

    #[test]
    fn an_import_that_is_dropped_leaves_nothing() {
        let (root, store) = folders();
        let source = root.path().join("source");
        fs::write(&source, "GGUF....").unwrap();
        let import = store
            .receive("new", &mut File::open(&source).unwrap())
            .unwrap();
        drop(import);
        assert_eq!(fs::read_dir(&store.imported).unwrap().count(), 0);
        store
            .receive("new", &mut File::open(&source).unwrap())
            .unwrap()
            .keep()
            .unwrap();
        assert_eq!(store.list()[0].name, "new");
        let again = store
            .receive("new", &mut File::open(&source).unwrap())
            .unwrap_err();
        assert!(again.message.contains("already"));
        assert!(store.list()[0].header.is_err(), "eight bytes are no header");
    }

    #[test]
    fn leftovers_are_cleaned_at_start() {
        let (root, store) = folders();
        fs::write(store.imported.join(".import-abc.gguf"), "x").unwrap();
        let store = Store::open(&store.imported, root.path().join("packaged"));
        assert_eq!(fs::read_dir(&store.imported).unwrap().count(), 0);
    }
}
