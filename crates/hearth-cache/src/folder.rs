//! The cached prefixes of one loaded model.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hearth_proto::{CacheScope, DiskCache, common_prefix};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{self, CacheError, Header};
use super::ledger::Ledger;
use super::{EXTENSION, files};

/// Least time between two updates of a file's time of use: each is a write to the SD card.
const TOUCH_EVERY: Duration = Duration::from_hours(1);
/// After a file system error nothing is written for this long.
const QUIET: Duration = Duration::from_mins(10);

/// Identity of a payload's producer: a payload can be used only with the same model and
/// the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`super::fingerprint`] of the model file.
    pub fingerprint: u128,
    /// A hash of KV types, rope settings and llama.cpp's version.
    pub settings: u64,
}

/// The cache folder of one loaded model.
#[derive(Debug)]
pub struct Folder {
    limits: DiskCache,
    identity: Identity,
    /// Of this model.
    entries: Vec<Entry>,
    /// Of other models: they only count for the budget.
    others: Vec<Other>,
    ledger: Ledger,
    quiet_until: SystemTime,
    /// Whether a longer prompt cannot be used for its prefixes.
    keeps_beginnings: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    scope: CacheScope,
    tokens: Vec<i32>,
    file: Other,
}

#[derive(Clone, Debug)]
struct Other {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// A cached prefix that begins like a new prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    path: PathBuf,
    /// Length of the common prefix, in tokens.
    pub tokens: u32,
}

/// A prefix to be written; this can be done on another thread.
#[derive(Debug)]
pub struct Pending {
    folder: PathBuf,
    target: PathBuf,
    header: Header,
}

impl Folder {
    /// Reads the folder; files that cannot be used are deleted.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(limits: DiskCache, identity: Identity) -> io::Result<Self> {
        fs::read_dir(&limits.folder)?;
        let mut folder = Self {
            ledger: Ledger::open(&limits.folder),
            identity,
            entries: Vec::new(),
            others: Vec::new(),
            quiet_until: SystemTime::UNIX_EPOCH,
            keeps_beginnings: false,
            limits,
        };
        for path in files(&folder.limits.folder) {
            folder.take_in(path);
        }
        folder.shrink(0);
        Ok(folder)
    }

    fn take_in(&mut self, path: PathBuf) {
        let header = match file::read_header(&path) {
            Ok(header) => header,
            Err(CacheError::Io(error)) => {
                log::warn!("cannot read {}: {error}", path.display());
                return;
            }
            Err(error) => return discard(&path, &error),
        };
        let Ok(meta) = fs::metadata(&path) else {
            return;
        };
        let file = Other {
            bytes: meta.len(),
            used: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            path,
        };
        if header.fingerprint != self.identity.fingerprint {
            self.others.push(file);
        } else if header.settings == self.identity.settings {
            self.entries.push(Entry {
                scope: header.scope,
                tokens: header.tokens,
                file,
            });
        } else {
            discard(&file.path, &"it was computed with other settings");
        }
    }

    /// The cached prefix that shares the most tokens with a prompt of this scope: at least
    /// `min_tokens`, more than `known`, and a number for which `is_usable`, called with the
    /// cached length and this number, returns true.
    pub fn find(
        &self,
        scope: impl Into<CacheScope>,
        prompt: &[i32],
        known: u32,
        is_usable: impl Fn(u32, u32) -> bool,
    ) -> Option<Found> {
        let scope = scope.into();
        let least = known.saturating_add(1).max(self.limits.min_tokens);
        let as_u32 = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let shared = |entry: &Entry| as_u32(common_prefix(&entry.tokens, prompt));
        self.entries
            .iter()
            .filter(|entry| scope.may_use(entry.scope))
            .map(|entry| (shared(entry), entry))
            .filter(|(tokens, _)| *tokens >= least)
            .filter(|(tokens, entry)| is_usable(as_u32(entry.tokens.len()), *tokens))
            .max_by_key(|(tokens, _)| *tokens)
            .map(|(tokens, entry)| Found {
                path: entry.file.path.clone(),
                tokens,
            })
    }

    /// A found prefix's payload, verified, and its number of tokens. `None` if it cannot be
    /// used; then it is deleted.
    pub fn read(&mut self, now: SystemTime, found: &Found) -> Option<(Vec<u8>, u32)> {
        let at = self
            .entries
            .iter()
            .position(|e| e.file.path == found.path)?;
        match file::read(&found.path) {
            Ok((header, payload)) if header.tokens == self.entries[at].tokens => {
                self.touch(now, at);
                Some((payload, u32::try_from(header.tokens.len()).unwrap_or(0)))
            }
            result => {
                self.entries.remove(at);
                match result {
                    Ok(_) => discard(&found.path, &"it contains another prompt now"),
                    Err(error) => discard(&found.path, &error),
                }
                None
            }
        }
    }

    /// Deletes a found prefix that llama.cpp did not accept.
    pub fn reject(&mut self, found: &Found) {
        self.entries.retain(|entry| entry.file.path != found.path);
        discard(&found.path, &"llama.cpp does not accept it");
    }

    fn touch(&mut self, now: SystemTime, at: usize) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let since = now.duration_since(entry.file.used).unwrap_or_default();
        if since >= TOUCH_EVERY {
            entry.file.used = now;
            // If this fails, the file only appears older than it is.
            _ = File::open(&entry.file.path).and_then(|file| file.set_modified(now));
        }
    }

    /// With `keeps`, a shorter prefix is kept in addition to a longer one that begins with it:
    /// needed where a payload can only be used whole.
    #[must_use]
    pub fn with_beginnings(mut self, keeps: bool) -> Self {
        self.keeps_beginnings = keeps;
        self
    }

    /// Prefixes of fewer tokens are not written.
    pub fn min_tokens(&self) -> u32 {
        self.limits.min_tokens
    }

    /// Whether a prefix with these tokens and about this many bytes may be written now: it is
    /// long enough, not cached yet, and today's budget allows it.
    pub fn wants(
        &self,
        now: SystemTime,
        scope: impl Into<CacheScope>,
        tokens: &[i32],
        bytes: u64,
    ) -> bool {
        let scope = scope.into();
        let is_kept = |entry: &Entry| {
            scope.may_use(entry.scope)
                && entry.tokens.starts_with(tokens)
                && (!self.keeps_beginnings || entry.tokens.len() == tokens.len())
        };
        let written = self.ledger.written(day(now));
        tokens.len() >= self.limits.min_tokens.max(1) as usize
            && bytes <= self.limits.max_bytes
            && written.saturating_add(bytes) <= self.limits.daily_write_bytes
            && now >= self.quiet_until
            && !self.entries.iter().any(is_kept)
    }

    /// Deletes old files to make space for a prefix and chooses its path.
    pub fn begin(
        &mut self,
        scope: impl Into<CacheScope>,
        tokens: Vec<i32>,
        payload: &[u8],
    ) -> Pending {
        let Identity {
            fingerprint,
            settings,
        } = self.identity;
        let header = Header::new(scope.into(), fingerprint, settings, tokens, payload);
        let bytes = header.encode();
        self.shrink(bytes.len() as u64 + header.payload_bytes);
        let name = format!("{fingerprint:032x}-{:016x}.{EXTENSION}", xxh3_64(&bytes));
        Pending {
            target: self.limits.folder.join(name),
            folder: self.limits.folder.clone(),
            header,
        }
    }

    /// Records that a prefix was written, or why not.
    pub fn finish(&mut self, now: SystemTime, pending: Pending, result: io::Result<u64>) {
        match result {
            Ok(bytes) => {
                self.ledger.add(day(now), bytes);
                let Header { scope, tokens, .. } = pending.header;
                // Its own prefixes are no longer needed.
                let useless = |e: &Entry| {
                    e.scope == scope
                        && tokens.starts_with(&e.tokens)
                        && (!self.keeps_beginnings || e.tokens.len() == tokens.len())
                };
                let entries = std::mem::take(&mut self.entries).into_iter();
                let (old, keep) = entries.partition(useless);
                self.entries = keep;
                for entry in Vec::into_iter(old).filter(|e| e.file.path != pending.target) {
                    remove(&entry.file.path);
                }
                self.entries.push(Entry {
                    scope,
                    tokens,
                    file: Other {
                        path: pending.target,
                        bytes,
                        used: now,
                    },
                });
            }
            Err(error) => {
                log::warn!(
                    "cannot write a prompt to the cache in {}: {error}; the next attempt is in {} minutes",
                    pending.folder.display(),
                    QUIET.as_secs() / 60
                );
                self.quiet_until = now + QUIET;
            }
        }
    }

    /// Forgets files that somebody else has deleted.
    pub fn forget(&mut self) {
        self.entries.retain(|entry| entry.file.path.exists());
        self.others.retain(|file| file.path.exists());
    }

    /// Deletes the least recently used files until `more` bytes fit.
    fn shrink(&mut self, more: u64) {
        loop {
            let all = self.entries.iter().map(|e| &e.file).chain(&self.others);
            let used: u64 = all.clone().map(|file| file.bytes).sum();
            if used.saturating_add(more) <= self.limits.max_bytes {
                return;
            }
            let Some(oldest) = all.min_by_key(|file| file.used).map(|f| f.path.clone()) else {
                return;
            };
            self.entries.retain(|entry| entry.file.path != oldest);
            self.others.retain(|file| file.path != oldest);
            remove(&oldest);
        }
    }
}

impl Pending {
    /// Writes to a temporary file, syncs, renames and syncs the folder; returns the bytes
    /// written. The final name never refers to a partial file.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, payload: &[u8]) -> io::Result<u64> {
        let header = self.header.encode();
        // Readable only by the owner: it reveals the prompt.
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(&header)?;
        file.write_all(payload)?;
        file.as_file().sync_all()?;
        file.persist(&self.target).map_err(|e| e.error)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(header.len() as u64 + payload.len() as u64)
    }
}

fn discard(path: &Path, why: &dyn std::fmt::Display) {
    log::warn!("the cached prompt {} is deleted: {why}", path.display());
    remove(path);
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot delete {}: {error}", path.display());
    }
}

/// Days since 1970-01-01.
fn day(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests;
