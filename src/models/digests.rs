//! The SHA-256 of the model files, computed once for each version of a file.
//!
//! Reading gigabytes takes minutes on a small board, so it begins only when someone has asked
//! for a digest, and rests while engines work.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hearth_proto::Failure;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::files::temporary;
use super::index::StoredModel;
use super::{ModelStore, blocking};
use crate::state_file;

/// The file with the known digests, in the folder of imported models.
const FILE: &str = ".digests.json";
/// Format of the file.
const VERSION: u32 = 1;
/// A larger file was not written by the daemon.
const BYTES_MAX: u64 = 4 << 20;
/// Bytes read between two looks at what the engines do.
const STEP: u64 = 16 << 20;
/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// The digest of one version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    path: PathBuf,
    size_bytes: u64,
    modified_s: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    files: Vec<Known>,
}

/// The known digests.
#[derive(Debug)]
pub(super) struct Digests {
    path: PathBuf,
    known: Mutex<Vec<Known>>,
    /// Whether anyone has asked for one.
    wanted: watch::Sender<bool>,
}

impl Known {
    fn is_of(&self, model: &StoredModel) -> bool {
        self.path == model.path
            && self.size_bytes == model.size_bytes
            && self.modified_s == model.modified_s
    }
}

/// Those that an earlier process has computed. A damaged file is ignored.
pub(super) fn stored(imported: &Path) -> Vec<Known> {
    let path = imported.join(FILE);
    read(&path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            log::warn!("ignoring {}: {error}", path.display());
        }
        Vec::new()
    })
}

impl Digests {
    pub(super) fn new(imported: &Path, known: Vec<Known>) -> Self {
        Self {
            path: imported.join(FILE),
            known: Mutex::new(known),
            wanted: watch::Sender::default(),
        }
    }

    fn of(&self, model: &StoredModel) -> Option<String> {
        let known = self.known.lock();
        let found = known.iter().find(|known| known.is_of(model));
        found.map(|known| known.sha256.clone())
    }
}

impl ModelStore {
    /// The digest of a file, in hexadecimal, if it is known by now.
    pub fn digest(&self, model: &StoredModel) -> Option<String> {
        self.shared.digests.of(model)
    }

    /// Has the digests computed that are not known.
    pub fn want_digests(&self) {
        self.shared.digests.wanted.send_replace(true);
    }

    /// Computes digests as soon as one was asked for, and never ends. Before each step it
    /// waits for `rest`.
    pub(crate) async fn compute_digests<F: Future<Output = ()>>(&self, rest: impl Fn() -> F) {
        let mut wanted = self.shared.digests.wanted.subscribe();
        let mut index = self.subscribe();
        let mut unreadable: Vec<Known> = Vec::new();
        // The store has the senders, so that waiting fails only when it is gone.
        while wanted.wait_for(|is_wanted| *is_wanted).await.is_ok() {
            let next = {
                let index = index.borrow_and_update();
                let files = index.models().iter().chain(index.adapters());
                let mut open = files.filter(|file| {
                    self.shared.digests.of(file).is_none()
                        && !unreadable.iter().any(|known| known.is_of(file))
                });
                open.next().cloned()
            };
            let Some(file) = next else {
                if index.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let sha256 = digest_of(&file, &rest).await;
            let known = |sha256| Known {
                path: file.path.clone(),
                size_bytes: file.size_bytes,
                modified_s: file.modified_s,
                sha256,
            };
            match sha256 {
                Ok(sha256) => self.remember(known(sha256)).await,
                Err(failure) => {
                    log::warn!("no digest of {}: {failure}", file.name);
                    unreadable.push(known(String::new()));
                }
            }
        }
    }

    /// Stores a digest, and forgets those of files that are gone.
    async fn remember(&self, new: Known) {
        let index = self.index();
        let content = {
            let mut known = self.shared.digests.known.lock();
            known.retain(|known| {
                let mut files = index.models().iter().chain(index.adapters());
                files.any(|file| known.is_of(file))
            });
            known.push(new);
            Content {
                version: VERSION,
                files: known.clone(),
            }
        };
        let path = self.shared.digests.path.clone();
        let written = blocking(move || write(&path, &content)).await;
        if let Ok(Err(error)) = written {
            let path = self.shared.digests.path.display();
            log::warn!("cannot write {path}: {error}; the digests are computed again later");
        }
    }
}

/// The digest of a file, read in steps.
async fn digest_of<F: Future<Output = ()>>(
    model: &StoredModel,
    rest: &impl Fn() -> F,
) -> Result<String, Failure> {
    let path = model.path.clone();
    let mut reading = blocking(move || Reading::open(&path)).await??;
    loop {
        rest().await;
        let (read, is_over) = blocking(move || reading.step()).await??;
        if is_over {
            let (size_bytes, modified_s) = (model.size_bytes, model.modified_s);
            return blocking(move || read.finish(size_bytes, modified_s)).await?;
        }
        reading = read;
    }
}

/// A file that is being read.
struct Reading {
    file: File,
    hash: Sha256,
    buffer: Vec<u8>,
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::invalid(format!("it cannot be read: {error}"))
}

impl Reading {
    fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self {
            file: File::open(path).map_err(|e| unreadable(&e))?,
            hash: Sha256::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Reads on; whether the end was reached.
    fn step(mut self) -> Result<(Self, bool), Failure> {
        let mut left = STEP;
        while left > 0 {
            let read = self.file.read(&mut self.buffer);
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|e| unreadable(&e))?,
            };
            if read == 0 {
                return Ok((self, true));
            }
            self.hash.update(&self.buffer[..read]);
            left = left.saturating_sub(read as u64);
        }
        Ok((self, false))
    }

    /// The digest, if the file is still the one of this size and time.
    fn finish(self, size_bytes: u64, modified_s: u64) -> Result<String, Failure> {
        let meta = self.file.metadata().map_err(|e| unreadable(&e))?;
        let modified = meta.modified().unwrap_or(UNIX_EPOCH);
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        if (meta.len(), modified.as_secs()) != (size_bytes, modified_s) {
            return Err(Failure::invalid("it was changed meanwhile"));
        }
        Ok(hexadecimal(&self.hash.finalize()))
    }
}

/// Bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

fn read(path: &Path) -> io::Result<Vec<Known>> {
    let content: Content = serde_json::from_slice(&state_file::read(path, BYTES_MAX)?)?;
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_sound = content.files.iter().all(|known| is_digest(&known.sha256));
    if content.version != VERSION || !is_sound {
        return Err(io::Error::other("the file has an unknown form"));
    }
    Ok(content.files)
}

/// Writes them atomically.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    state_file::write(temporary(folder)?, path, &serde_json::to_vec(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn known(name: &str) -> Known {
        Known {
            path: name.into(),
            size_bytes: 3,
            modified_s: 7,
            sha256: ABC.into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let content = Content {
            version: VERSION,
            files: vec![known("a"), known("b")],
        };
        write(&path, &content).unwrap();
        assert_eq!(stored(folder.path()), content.files);
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            &good[..good.len() / 2],
            "",
            &good.replace("\"version\":1", "\"version\":2"),
            &good.replace(ABC, "abc"),
            &"x".repeat(5 << 20),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(stored(folder.path()).is_empty());
        }
    }

    #[test]
    fn a_file_is_read_in_steps_and_must_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let size = usize::try_from(STEP).unwrap() + 1;
        fs::write(&path, vec![b'x'; size]).unwrap();
        let (reading, is_over) = Reading::open(&path).unwrap().step().unwrap();
        assert!(!is_over);
        let (reading, is_over) = reading.step().unwrap();
        assert!(is_over);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let modified_s = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expected = hexadecimal(&Sha256::digest(vec![b'x'; size]));
        assert_eq!(reading.finish(size as u64, modified_s).unwrap(), expected);
        for (size, time) in [(size as u64 - 1, modified_s), (size as u64, modified_s - 1)] {
            let (reading, _) = Reading::open(&path).unwrap().step().unwrap();
            assert!(reading.finish(size, time).is_err());
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(hexadecimal(&Sha256::digest("abc")), ABC);
    }
}
