//! A partially downloaded file in the caller's cache folder, with its state.
//!
//! The state of `NAME.part` is in `NAME.json`. Until the next boot, the whole part is
//! known to be the beginning of the server's file; after a reboot, only what was synced,
//! because a power failure may leave zeros in place of data.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hearth_proto::units::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Remote;
use crate::error::{CtlError, Result};
use crate::progress::Progress;

/// Bytes between two syncs: the most that a power failure may cost.
const SYNC_EVERY: u64 = 16 << 20;
/// Bytes hashed between two checks for signals.
const STEP: usize = 1 << 20;
/// Changes with every boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The state of a partial file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Where it comes from.
    url: String,
    /// The validator of this version of the file (`ETag` or date).
    validator: Option<String>,
    /// Size of the whole file in bytes, if the server reports it.
    size: Option<u64>,
    /// Number of bytes from the beginning that are synced.
    synced: u64,
    /// Boot ID at the time of writing.
    boot: String,
}

/// A partial file, open and locked.
#[derive(Debug)]
pub struct Partial<'a> {
    file: File,
    path: PathBuf,
    state: State,
    length: u64,
    progress: &'a Progress,
    /// Whether to report at the end that the file is kept.
    reports_kept: bool,
}

/// `$XDG_CACHE_HOME/hearthd/downloads`; created if necessary.
pub fn folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| set("HOME").map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| {
        CtlError::Usage("no directory for downloads: set XDG_CACHE_HOME or HOME".to_owned())
    })?;
    let folder = cache.join("hearthd/downloads");
    fs::create_dir_all(&folder).map_err(|source| CtlError::File {
        path: folder.clone(),
        source,
    })?;
    Ok(folder)
}

impl<'a> Partial<'a> {
    /// Opens the partial file of `remote`, or creates an empty one.
    ///
    /// # Errors
    /// `File`; also if another process has locked it.
    pub fn open(folder: &Path, remote: &Remote, progress: &'a Progress) -> Result<Self> {
        let path = folder.join(format!("{}.part", key(remote)));
        let fail = |source| CtlError::File {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                fail(io::Error::other("another hearthctl is downloading it"))
            }
            TryLockError::Error(e) => fail(e),
        })?;
        let mut partial = Self {
            file,
            path: path.clone(),
            state: State::default(),
            length: 0,
            progress,
            reports_kept: true,
        };
        let state = fs::read(partial.state_path()).ok();
        let state = state.and_then(|text| serde_json::from_slice::<State>(&text).ok());
        let length = partial.file.metadata().map_err(fail)?.len();
        if let Some(state) = state.filter(|state| belongs_to(state, remote)) {
            let good = if state.boot == boot() {
                length
            } else {
                state.synced
            };
            // A file shorter than its synced length is not the one that was written.
            if good <= length && state.size.is_none_or(|size| good <= size) {
                partial.length = good;
                partial.state = state;
            }
        }
        remote.url.as_str().clone_into(&mut partial.state.url);
        partial.cut(partial.length)?;
        Ok(partial)
    }

    /// Number of bytes present.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Size of the whole file, if known.
    pub fn size(&self) -> Option<u64> {
        self.state.size
    }

    /// The validator of the version that this is a part of.
    pub fn validator(&self) -> Option<&str> {
        self.state.validator.as_deref()
    }

    /// Whether the file is complete.
    pub fn is_complete(&self) -> bool {
        self.state.size == Some(self.length)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Starts over with a file of this version and size.
    pub fn restart(&mut self, validator: Option<String>, size: Option<u64>) -> Result {
        self.cut(0)?;
        self.state.synced = 0;
        self.state.validator = validator;
        self.state.size = size;
        self.checkpoint()
    }

    /// Marks the file as complete at this length: the stream ended without a stated size.
    pub fn ends_here(&mut self) {
        self.state.size = Some(self.length);
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        self.file.write_all(bytes).map_err(|e| self.fail(e))?;
        self.length += bytes.len() as u64;
        if self.length - self.state.synced >= SYNC_EVERY {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Syncs the data, then records that in the state.
    pub fn checkpoint(&mut self) -> Result {
        self.file.sync_data().map_err(|e| self.fail(e))?;
        self.state.synced = self.length;
        self.state.boot = boot();
        let path = self.state_path();
        let fail = |source| CtlError::File {
            path: path.clone(),
            source,
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
        serde_json::to_writer(&mut file, &self.state).map_err(|e| fail(e.into()))?;
        file.as_file().sync_all().map_err(fail)?;
        file.persist(&path).map_err(|e| fail(e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(fail)
    }

    /// The SHA-256 of the file's contents, in hexadecimal digits.
    pub async fn digest(&mut self) -> Result<String> {
        let mut hash = Sha256::new();
        self.file.rewind().map_err(|e| self.fail(e))?;
        let mut step = vec![0; STEP];
        let mut done = 0;
        loop {
            let n = self.file.read(&mut step).map_err(|e| self.fail(e))?;
            let Some(read) = step.get(..n).filter(|read| !read.is_empty()) else {
                break;
            };
            hash.update(read);
            done += n as u64;
            self.progress.bytes("checking", done, self.length);
            tokio::task::yield_now().await;
        }
        Ok(hex(&hash.finalize()))
    }

    /// Deletes the file: it is no longer needed, or corrupt.
    pub fn delete(mut self) {
        self.reports_kept = false;
        _ = fs::remove_file(self.state_path());
        _ = fs::remove_file(&self.path);
    }

    /// Suppresses the message of `drop`, if the caller reports the result.
    pub fn suppress_report(&mut self) {
        self.reports_kept = false;
    }

    fn cut(&mut self, length: u64) -> Result {
        self.file.set_len(length).map_err(|e| self.fail(e))?;
        let end = SeekFrom::Start(length);
        self.file.seek(end).map_err(|e| self.fail(e))?;
        self.length = length;
        Ok(())
    }

    fn state_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn fail(&self, source: io::Error) -> CtlError {
        CtlError::File {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Partial<'_> {
    /// Keeps the partial file in every case.
    fn drop(&mut self) {
        if self.length == 0 {
            _ = fs::remove_file(self.state_path());
            _ = fs::remove_file(&self.path);
            return;
        }
        if !self.reports_kept {
            return;
        }
        // A failure only means that less can be resumed.
        _ = self.checkpoint();
        self.progress.note(&format!(
            "{} are kept in {}; the same command resumes the download",
            Bytes(self.length),
            self.path.display()
        ));
    }
}

/// Whether a partial file belongs to `remote`.
fn belongs_to(state: &State, remote: &Remote) -> bool {
    // Files with the same digest are the same, whatever their source.
    let same = remote.sha256.is_some() || state.url == remote.url.as_str();
    let sizes = state.size.zip(remote.size);
    same && sizes.is_none_or(|(a, b)| a == b)
}

/// The name of a partial file without extension: readable and unique per file.
fn key(remote: &Remote) -> String {
    let digest = match &remote.sha256 {
        Some(sha256) => sha256.clone(),
        None => hex(&Sha256::digest(remote.url.as_str().as_bytes())),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = remote.file_name.chars().filter(|c| plain(*c)).collect();
    let name = name.trim_start_matches('.');
    let (name, digest) = (name.get(..60).unwrap_or(name), digest.get(..16));
    format!("{name}-{}", digest.unwrap_or_default())
}

fn boot() -> String {
    fs::read_to_string(BOOT_ID).map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> &'static Progress {
        Box::leak(Box::new(Progress::new("", true)))
    }

    fn remote(url: &str, sha256: Option<&str>) -> Remote {
        Remote {
            url: url.parse().expect("an address"),
            token: None,
            file_name: "x.gguf".into(),
            size: Some(100),
            sha256: sha256.map(str::to_owned),
        }
    }

    fn write(folder: &Path, bytes: &[u8], size: u64) -> PathBuf {
        let remote = remote("http://h/x.gguf", None);
        let mut partial = Partial::open(folder, &remote, quiet()).expect("opens");
        partial
            .restart(Some("\"v1\"".into()), Some(size))
            .expect("begins");
        partial.write(bytes).expect("writes");
        partial.path().to_owned()
    }

    #[test]
    fn a_partial_file_is_resumed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = write(dir.path(), b"GGUF1234", 100);
        let remote = remote("http://h/x.gguf", None);
        let again = Partial::open(dir.path(), &remote, quiet()).expect("opens");
        assert_eq!((again.length(), again.validator()), (8, Some("\"v1\"")));
        let second = Partial::open(dir.path(), &remote, quiet()).expect_err("is locked");
        assert!(second.to_string().contains("another hearthctl"), "{second}");
        drop(again);

        // After a power failure only the synced bytes count.
        let state = path.with_extension("json");
        let text = fs::read_to_string(&state).expect("a state");
        fs::write(&state, text.replace(&boot(), "another-boot")).expect("writes");
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(&[0; 50]).expect("writes");
        let again = Partial::open(dir.path(), &remote, quiet()).expect("opens");
        assert_eq!(again.length(), 8);
        assert_eq!(fs::read(&path).expect("reads"), b"GGUF1234");
        drop(again);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 2);
    }

    #[test]
    fn a_partial_file_of_another_version_is_discarded() {
        let dir = tempfile::tempdir().expect("a folder");
        let remote = remote("http://h/x.gguf", None);
        for invalid in [
            "no JSON",
            "{}",
            "{\"url\":\"http://h/other\",\"validator\":null,\"size\":null,\"synced\":0,\"boot\":\"\"}",
        ] {
            let path = write(dir.path(), b"GGUF1234", 100);
            fs::write(path.with_extension("json"), invalid).expect("writes");
            let again = Partial::open(dir.path(), &remote, quiet()).expect("opens");
            assert_eq!((again.length(), again.validator()), (0, None), "{invalid}");
        }
        // A size that differs from the list.
        write(dir.path(), b"GGUF1234", 50);
        let again = Partial::open(dir.path(), &remote, quiet()).expect("opens");
        assert_eq!(again.length(), 0);
        drop(again);
        // A file that another program has truncated.
        let path = write(dir.path(), b"GGUF1234", 100);
        let text = fs::read_to_string(path.with_extension("json")).expect("a state");
        let other = text.replace(&boot(), "another-boot");
        fs::write(path.with_extension("json"), other).expect("writes");
        fs::write(&path, "GG").expect("writes");
        let again = Partial::open(dir.path(), &remote, quiet()).expect("opens");
        assert_eq!(again.length(), 0);
    }

    #[test]
    fn files_with_one_digest_share_a_partial_file() {
        let sum = "ab".repeat(32);
        let (a, b) = (
            remote("http://a/x", Some(&sum)),
            remote("http://b/y", Some(&sum)),
        );
        assert_eq!(key(&a), key(&b));
        assert_ne!(
            key(&remote("http://a/x", None)),
            key(&remote("http://b/x", None))
        );
    }
}
