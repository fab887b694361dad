//! The disk cache: looks up stable prefixes for the tick loop, and writes new ones on a
//! separate thread, since a memory card can take seconds.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use hearth_cache::{Folder, Found, Identity, Pending, fingerprint};
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::{CacheScope, LoadRequest};
use xxhash_rust::xxh3::xxh3_64;

/// How long to wait for a write in progress, usually at the end of the process.
const LAST_WRITE: Duration = Duration::from_secs(8);

/// The prompt cache on disk of a loaded model.
#[derive(Debug)]
pub(super) struct DiskCacheWriter {
    folder: Folder,
    jobs: Sender<Job>,
    done: Receiver<(Pending, io::Result<u64>)>,
    is_writing: bool,
}

type Job = (Pending, Vec<u8>);

impl DiskCacheWriter {
    /// Opens the cache that a load request asks for. `settings` names what saved
    /// sequences depend on besides the model; `kind` determines whether they can be cut.
    /// `None` where there is no cache or it cannot be used: a model works without one.
    pub(super) fn open(request: &LoadRequest, settings: &str, kind: MemoryKind) -> Option<Self> {
        let limits = request.cache.clone()?;
        let path = limits.folder.display().to_string();
        let opened = fingerprint(&request.path)
            .map_err(io::Error::other)
            .and_then(|fingerprint| {
                let settings = xxh3_64(settings.as_bytes());
                let identity = Identity {
                    fingerprint,
                    settings,
                };
                Folder::open(limits, identity)
            })
            .map(|folder| folder.with_beginnings(kind.needs_checkpoints()))
            .and_then(Self::start);
        opened
            .inspect_err(|error| log::warn!("the prompt cache in {path} cannot be used, prompts are cached in memory only: {error}"))
            .ok()
    }

    fn start(folder: Folder) -> io::Result<Self> {
        let (jobs, receiver) = channel::<Job>();
        let (sender, done) = channel();
        let thread = std::thread::Builder::new().name("disk-cache".into());
        thread.spawn(move || {
            for (pending, payload) in receiver {
                let result = pending.write(&payload);
                if sender.send((pending, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            folder,
            jobs,
            done,
            is_writing: false,
        })
    }

    /// The cached prefix that shares more than `known` tokens with a prompt, and of which
    /// that number is usable: see [`Folder::find`].
    pub(super) fn find(
        &self,
        scope: CacheScope,
        prompt: &[i32],
        known: u32,
        is_usable: impl Fn(u32, u32) -> bool,
    ) -> Option<Found> {
        self.folder.find(scope, prompt, known, is_usable)
    }

    /// Its verified contents, and their number of tokens.
    pub(super) fn read(&mut self, found: &Found) -> Option<(Vec<u8>, u32)> {
        self.folder.read(now(), found)
    }

    /// Deletes a cached prefix that llama.cpp refuses.
    pub(super) fn reject(&mut self, found: &Found) {
        self.folder.reject(found);
    }

    /// Whether a write is in progress.
    pub(super) fn is_writing(&mut self) -> bool {
        while let Ok((pending, result)) = self.done.try_recv() {
            self.finish(pending, result);
        }
        self.is_writing
    }

    /// The minimum length of a cached prefix; a shorter one is not worth a file.
    pub(super) fn min_tokens(&self) -> u32 {
        self.folder.min_tokens()
    }

    /// Whether a prefix of about this many bytes should be written.
    pub(super) fn wants(&self, scope: CacheScope, tokens: &[i32], bytes: u64) -> bool {
        self.folder.wants(now(), scope, tokens, bytes)
    }

    /// Starts writing a prefix.
    pub(super) fn write(&mut self, scope: CacheScope, tokens: Vec<i32>, payload: Vec<u8>) {
        let pending = self.folder.begin(scope, tokens, &payload);
        self.is_writing = self.jobs.send((pending, payload)).is_ok();
    }

    /// Waits for the write in progress.
    pub(super) fn wait(&mut self) {
        if !self.is_writing {
            return;
        }
        match self.done.recv_timeout(LAST_WRITE) {
            Ok((pending, result)) => self.finish(pending, result),
            // Give up: a temporary file that has not been renamed is not used.
            Err(_) => self.is_writing = false,
        }
    }

    /// Drops the entries of files that the daemon has deleted.
    pub(super) fn forget(&mut self) {
        self.wait();
        self.folder.forget();
    }

    fn finish(&mut self, pending: Pending, result: io::Result<u64>) {
        self.is_writing = false;
        if let Ok(bytes) = result {
            log::info!(bytes; "a prompt was written to the disk cache");
        }
        self.folder.finish(now(), pending, result);
    }
}

/// Wall-clock time: files outlive the process.
fn now() -> SystemTime {
    SystemTime::now()
}
