//! The prefix cache: which sequences of the KV cache are free, which finished ones stay
//! there for the next prompt, and what of them is on disk.

use hearth_policy::scheduler::{Hit, Lengths, PrefixIndex};
use hearth_proto::CacheScope;

use super::as_u32;
use super::backend::{KvStore, Token};
use super::disk_cache::DiskCacheWriter;

/// The owner of all sequence numbers that no running request has.
#[derive(Debug)]
pub(super) struct PrefixCache {
    index: PrefixIndex,
    disk: Option<DiskCacheWriter>,
    free_seqs: Vec<u32>,
}

/// The sequence that a prefix is restored into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) seq: u32,
    pub(super) scope: CacheScope,
    /// Whether no other sequence runs, so that what does not fit never will.
    pub(super) is_only: bool,
}

impl PrefixCache {
    pub(super) fn new(kv: &impl KvStore, kv_tokens: u32, disk: Option<DiskCacheWriter>) -> Self {
        let kind = kv.memory();
        let sequences = kv.sequences();
        Self {
            index: PrefixIndex::new(kind, sequences.kept as usize, kv_tokens as usize),
            disk: disk.filter(|_| kind.can_share()),
            free_seqs: (0..sequences.all()).rev().collect(),
        }
    }

    /// Whether prefixes are written to disk.
    pub(super) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// A shorter prefix is not written to disk; 0 where none is.
    pub(super) fn min_tokens(&self) -> u32 {
        self.disk.as_ref().map_or(0, DiskCacheWriter::min_tokens)
    }

    /// The number of finished sequences in memory.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// A free sequence number.
    pub(super) fn take_seq(&mut self) -> Option<u32> {
        self.free_seqs.pop()
    }

    /// Clears a sequence; its number is free again.
    pub(super) fn free(&mut self, kv: &mut impl KvStore, seq: u32) {
        kv.remove(seq, 0);
        self.free_seqs.push(seq);
    }

    /// Removes the least recently used sequence; returns whether there was one.
    pub(super) fn evict(&mut self, kv: &mut impl KvStore) -> bool {
        let oldest = self.index.evict();
        if let Some(oldest) = oldest {
            self.free(kv, oldest);
        }
        oldest.is_some()
    }

    /// Keeps a finished sequence, and frees those that are no longer needed.
    pub(super) fn insert(
        &mut self,
        kv: &mut impl KvStore,
        (seq, scope): (u32, CacheScope),
        tokens: Vec<Token>,
        lengths: &Lengths,
    ) {
        for seq in self.index.insert(seq, scope, tokens, lengths) {
            self.free(kv, seq);
        }
    }

    /// Keeps a copy of a running sequence that now has these tokens, unless there is one.
    pub(super) fn checkpoint(
        &mut self,
        kv: &mut impl KvStore,
        (seq, scope): (u32, CacheScope),
        tokens: &[Token],
        lengths: &Lengths,
    ) {
        if self.index.has(scope, tokens) {
            return;
        }
        if self.free_seqs.is_empty() {
            self.evict(kv);
        }
        let Some(spare) = self.take_seq() else {
            return;
        };
        if kv.share(seq, spare, as_u32(tokens.len())) {
            self.insert(kv, (spare, scope), tokens.to_vec(), lengths);
        } else {
            self.free(kv, spare);
        }
    }

    /// The finished sequence of which the most tokens can be used for a prompt, at most
    /// `most`.
    pub(super) fn find(
        &mut self,
        kv: &impl KvStore,
        scope: CacheScope,
        prompt: &[Token],
        most: usize,
    ) -> Option<Hit> {
        let is_usable = |seq, tokens| kv.is_usable(seq, tokens);
        self.index.find(scope, prompt, most, is_usable)
    }

    /// After how many tokens a prompt diverges from the most similar finished sequence; 0 if
    /// these are too few to be useful.
    pub(super) fn divergence(&self, scope: CacheScope, prompt: &[Token]) -> usize {
        self.index.divergence(scope, prompt)
    }

    /// After how many tokens of a prompt others are known to diverge from it.
    pub(super) fn forks(&self, scope: CacheScope, prompt: &[Token]) -> impl Iterator<Item = usize> {
        self.index.forks(scope, prompt)
    }

    /// Restores what a prompt begins with from disk, where that is more than `known` tokens;
    /// returns how many.
    pub(super) fn restore(
        &mut self,
        kv: &mut impl KvStore,
        target: Target,
        prompt: &[Token],
        known: u32,
    ) -> Option<u32> {
        let disk = self.disk.as_mut()?;
        let seq = target.seq;
        let kind = kv.memory();
        let usable = |saved, tokens| kind.is_usable_saved(saved, tokens);
        let found = disk.find(target.scope, prompt, known, usable)?;
        let (saved, tokens) = disk.read(&found)?;
        while !kv.restore(seq, &saved, tokens) {
            // There is no room, or the data are invalid. With nothing else in the cache,
            // the data are invalid.
            if !self.evict(kv) {
                if target.is_only
                    && let Some(disk) = &mut self.disk
                {
                    disk.reject(&found);
                }
                return None;
            }
        }
        if kv.remove(seq, found.tokens) && kv.is_usable(seq, found.tokens) {
            return Some(found.tokens);
        }
        kv.remove(seq, 0);
        None
    }

    /// Drops this user's finished sequences, or all, and the entries of deleted files.
    pub(super) fn forget(&mut self, kv: &mut impl KvStore, uid: Option<u32>) {
        self.drop_sequences(kv, uid);
        if let Some(disk) = &mut self.disk {
            disk.forget();
        }
    }

    /// Drops all finished sequences from memory.
    pub(super) fn trim(&mut self, kv: &mut impl KvStore) {
        self.drop_sequences(kv, None);
    }

    fn drop_sequences(&mut self, kv: &mut impl KvStore, uid: Option<u32>) {
        for seq in self.index.forget(uid) {
            self.free(kv, seq);
        }
    }

    /// Clears the KV cache, in which nothing runs.
    pub(super) fn clear(&mut self, kv: &mut impl KvStore) {
        self.free_seqs.extend(self.index.forget(None));
        kv.clear();
    }

    /// Changes the size of the KV cache.
    pub(super) fn set_tokens_max(&mut self, kv_tokens: u32) {
        self.index.set_tokens_max(kv_tokens as usize);
    }

    /// Whether [`Self::write_next`] has something to do, or a write is in progress.
    pub(super) fn has_to_write(&mut self) -> bool {
        let Some(disk) = &mut self.disk else {
            return false;
        };
        disk.is_writing() || self.index.has_stable()
    }

    /// Starts writing one stable prefix to disk, unless a write is in progress; for when there
    /// is nothing else to do. A token has about `token_bytes`.
    pub(super) fn write_next(&mut self, kv: &mut impl KvStore, token_bytes: u64) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        if disk.is_writing() {
            return;
        }
        let Some(stable) = self.index.take_stable() else {
            return;
        };
        let tokens = as_u32(stable.tokens.len());
        let bytes = u64::from(tokens) * token_bytes;
        if !disk.wants(stable.scope, &stable.tokens, bytes) {
            return;
        }
        let Some(seq) = self.free_seqs.last().copied() else {
            return;
        };
        if !kv.share(stable.seq, seq, tokens) {
            return;
        }
        let saved = kv.save(seq, tokens);
        kv.remove(seq, 0);
        // A recurrent state takes more than the keys and values of its tokens.
        let bytes = saved.len() as u64;
        if !saved.is_empty() && disk.wants(stable.scope, &stable.tokens, bytes) {
            disk.write(stable.scope, stable.tokens, saved);
        }
    }

    /// Writes all stable prefixes to disk, and waits until they are written.
    pub(super) fn write_all(&mut self, kv: &mut impl KvStore, token_bytes: u64) {
        while self.has_to_write() {
            self.write_next(kv, token_bytes);
            if let Some(disk) = &mut self.disk {
                disk.wait();
            }
        }
    }
}
