//! Files that clients upload before they create a model from them (Ollama's blobs). They are
//! named by their SHA-256, and deleted when the daemon starts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hearth_proto::{Failure, FailureKind};
use nix::sys::statvfs::statvfs;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::digests::hexadecimal;
use super::files::{TEMPORARY_PREFIX, temporary};
use super::{ModelStore, blocking};
use crate::caller::{Caller, Permission};

/// Bytes of the file system that uploads leave free: logs and state files need some.
const FREE_MIN: u64 = 256 << 20;
/// Bytes that are collected before they are written.
const WRITE_STEP: usize = 1 << 20;

/// A file that is being uploaded; it is deleted on drop.
#[derive(Debug)]
pub struct Upload {
    /// Absent only while it is being written.
    file: Option<Receiving>,
    waiting: Vec<u8>,
    digest: String,
    target: PathBuf,
}

#[derive(Debug)]
struct Receiving {
    file: NamedTempFile,
    hash: Sha256,
}

impl ModelStore {
    /// Whether a file of this digest was uploaded, or is installed as far as is known.
    ///
    /// # Errors
    /// `InvalidArgs` where it is no digest.
    pub async fn has_blob(&self, digest: &str) -> Result<bool, Failure> {
        let staged = staged(&self.shared.imported, check_digest(digest)?);
        let is_staged = blocking(move || staged.is_file()).await?;
        Ok(is_staged || self.installed_as(digest).is_some())
    }

    /// The file of the installed model or adapter with this digest, as far as is known.
    pub(super) fn installed_as(&self, digest: &str) -> Option<super::StoredModel> {
        let hex = check_digest(digest).ok()?;
        let index = self.index();
        let mut files = index.models().iter().chain(index.adapters());
        let found = files.find(|file| self.digest(file).as_deref() == Some(hex));
        found.cloned()
    }

    /// Begins to receive a file of `announced` bytes, as far as that is known.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` where it is no digest, `Io` where there is no space.
    pub async fn receive_blob(
        &self,
        caller: &Caller,
        digest: &str,
        announced: u64,
    ) -> Result<Upload, Failure> {
        self.check_admin(caller, Permission::ByRule)?;
        let digest = check_digest(digest)?.to_owned();
        let folder = self.shared.imported.clone();
        let target = staged(&folder, &digest);
        let file = blocking(move || {
            fs::create_dir_all(&folder).map_err(|e| failed(&e))?;
            check_space(&folder, announced)?;
            temporary(&folder).map_err(|e| failed(&e))
        });
        let receiving = Receiving {
            file: file.await??,
            hash: Sha256::new(),
        };
        Ok(Upload {
            file: Some(receiving),
            waiting: Vec::with_capacity(WRITE_STEP),
            digest,
            target,
        })
    }

    /// An uploaded or installed file with this digest.
    ///
    /// # Errors
    /// `InvalidArgs` where there is none, or it is no digest.
    pub(super) async fn open_blob(&self, digest: &str) -> Result<File, Failure> {
        let hex = check_digest(digest)?.to_owned();
        let staged = staged(&self.shared.imported, &hex);
        let installed = self.installed_as(digest).map(|model| model.path);
        let opened = blocking(move || {
            let staged = File::open(staged);
            staged.or_else(|error| installed.map_or(Err(error), File::open))
        });
        opened.await?.map_err(|_| {
            Failure::invalid(format!(
                "there is no blob {digest}: send it to /api/blobs/{digest} first"
            ))
        })
    }

    /// Deletes an uploaded file that was used.
    pub(super) async fn drop_blob(&self, digest: &str) {
        if let Ok(hex) = check_digest(digest) {
            let staged = staged(&self.shared.imported, hex);
            _ = blocking(move || fs::remove_file(staged)).await;
        }
    }
}

impl Upload {
    /// Receives more of it.
    ///
    /// # Errors
    /// `Io`, also where there is no space.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() < WRITE_STEP {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let Some(mut receiving) = self.file.take() else {
            return Err(Failure::cancelled());
        };
        let mut bytes = std::mem::take(&mut self.waiting);
        let written = blocking(move || {
            let folder = receiving.file.path().parent().unwrap_or(Path::new("/"));
            check_space(folder, bytes.len() as u64)?;
            receiving.hash.update(&bytes);
            receiving.file.write_all(&bytes).map_err(|e| failed(&e))?;
            bytes.clear();
            Ok::<_, Failure>((receiving, bytes))
        });
        let (receiving, bytes) = written.await??;
        (self.file, self.waiting) = (Some(receiving), bytes);
        Ok(())
    }

    /// Ends it; it can be used if its digest is the announced one.
    ///
    /// # Errors
    /// `InvalidArgs` where it is another one; `Io`.
    pub async fn finish(mut self) -> Result<(), Failure> {
        self.flush().await?;
        let Some(receiving) = self.file.take() else {
            return Err(Failure::cancelled());
        };
        let (digest, target) = (self.digest, self.target);
        blocking(move || {
            let found = hexadecimal(&receiving.hash.finalize());
            if found != digest {
                return Err(Failure::invalid_field(
                    "digest",
                    format!("does not match: the body has sha256:{found}"),
                ));
            }
            let file = receiving.file;
            file.as_file().sync_all().map_err(|e| failed(&e))?;
            file.persist(target).map_err(|e| failed(&e.error))?;
            Ok(())
        })
        .await?
    }
}

/// The hexadecimal part of a digest.
fn check_digest(digest: &str) -> Result<&str, Failure> {
    let hex = digest.strip_prefix("sha256:");
    // Some clients write a dash, as in the names of Ollama's files.
    let hex = hex.or_else(|| digest.strip_prefix("sha256-"));
    let is_hex = |hex: &&str| {
        let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        hex.len() == 64 && hex.bytes().all(is_digit)
    };
    hex.filter(is_hex).ok_or_else(|| {
        Failure::invalid_field("digest", "must be `sha256:` and 64 hexadecimal digits")
    })
}

fn staged(imported: &Path, hex: &str) -> PathBuf {
    imported.join(format!("{TEMPORARY_PREFIX}sha256-{hex}"))
}

fn check_space(folder: &Path, bytes: u64) -> Result<(), Failure> {
    let space = statvfs(folder).map_err(|e| failed(&e.into()))?;
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    if bytes.saturating_add(FREE_MIN) <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let message = format!(
        "no space: {} MiB are free in {}, and {} MiB stay free",
        mib(free),
        folder.display(),
        mib(FREE_MIN)
    );
    Err(Failure::new(FailureKind::Io, message))
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Io, format!("cannot store the blob: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_a_form() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(check_digest(&format!("sha256:{hex}")).unwrap(), hex);
        assert_eq!(check_digest(&format!("sha256-{hex}")).unwrap(), hex);
        let longer = format!("sha256:{hex}0");
        let upper = format!("sha256:{}", hex.to_uppercase());
        for bad in [
            "",
            "sha256:",
            &hex,
            &longer,
            &upper,
            "sha256:../../../etc/passwd",
        ] {
            let failure = check_digest(bad).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some("digest"), "{bad}");
        }
    }

    #[test]
    fn some_space_stays_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_space(folder.path(), 0).is_ok());
        let failure = check_space(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Io);
    }
}
