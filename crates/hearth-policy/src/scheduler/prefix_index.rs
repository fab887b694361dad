//! The prefix cache in memory: finished sequences whose keys and values stay in the KV
//! cache, looked up by their longest common prefix with a new prompt.
//!
//! Only tokens that are equal one by one are used, and a caller gets only what the same
//! user's requests left (or shared entries), since the time to the first token would reveal
//! earlier prompts to other users.
//!
//! If a sequence cannot be cut anywhere ([`MemoryKind`]), copies of it are kept that end
//! at its boundaries: checkpoints.

use hearth_proto::{CacheScope, common_prefix};

use super::memory::MemoryKind;

/// A shorter common prefix saves too little time: nearly all prompts share the
/// beginning-of-sequence token and the first words of a template.
const USE_MIN: usize = 16;

/// Finished sequences, by the number of their place in the KV cache.
#[derive(Clone, Debug)]
pub struct PrefixIndex {
    kind: MemoryKind,
    /// Least recently used first.
    entries: Vec<Entry>,
    entries_max: usize,
    tokens_max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    seq: u32,
    scope: CacheScope,
    tokens: Vec<i32>,
    /// Tokens of the prompt; the answer's follow.
    prompt: usize,
    /// Length of the prefix that other prompts are likely to share; 0 if there is none, or
    /// [`PrefixIndex::take_stable`] has returned it.
    stable: usize,
    /// Whether it ends where two prompts diverge: it stays useful when one of them is
    /// continued.
    is_fork: bool,
}

/// A prefix that is worth writing to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StablePrefix {
    /// Number of the sequence in the KV cache.
    pub seq: u32,
    /// The user that it belongs to, and the adapters that it was computed with.
    pub scope: CacheScope,
    /// The tokens of the prefix.
    pub tokens: Vec<i32>,
}

/// Parts of a sequence, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of its stable prefix; 0 if none is known.
    pub stable: usize,
    /// After how many tokens other prompts are likely to diverge from this one, ascending.
    pub boundaries: Vec<usize>,
}

/// A cached sequence that shares a prefix with a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its number in the KV cache.
    pub seq: u32,
    /// How many of the prompt's first tokens it shares.
    pub tokens: u32,
    /// Whether two prompts differ after these tokens: they are a common prefix, not one
    /// conversation that is continued.
    pub diverges: bool,
}

impl PrefixIndex {
    /// Keeps at most this many sequences, with at most this many tokens together. Tokens that
    /// two sequences of one user share count once.
    pub fn new(kind: MemoryKind, entries_max: usize, tokens_max: usize) -> Self {
        Self {
            kind,
            entries: Vec::new(),
            entries_max,
            tokens_max,
        }
    }

    /// Changes the maximum number of tokens; applies from the next insertion on.
    pub fn set_tokens_max(&mut self, tokens_max: usize) {
        self.tokens_max = tokens_max;
    }

    /// Number of cached sequences.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The cached sequence that shares the most tokens with a prompt of this user, among those
    /// for which `is_usable` accepts that many. At most `most` tokens are used. A hit of at
    /// least `USE_MIN` tokens becomes the most recently used.
    pub fn find(
        &mut self,
        scope: impl Into<CacheScope>,
        prompt: &[i32],
        most: usize,
        is_usable: impl Fn(u32, u32) -> bool,
    ) -> Option<Hit> {
        let (at, shared) = self
            .shared(scope.into(), prompt)
            .filter(|(at, shared)| {
                let tokens = (*shared).min(most);
                tokens > 0 && is_usable(self.entries[*at].seq, as_u32(tokens))
            })
            .max_by_key(|(_, shared)| *shared)?;
        let entry = &self.entries[at];
        let tokens = shared.min(most);
        let hit = Hit {
            seq: entry.seq,
            tokens: as_u32(tokens),
            diverges: shared < entry.prompt && shared < prompt.len(),
        };
        if tokens >= USE_MIN {
            let entry = self.entries.remove(at);
            // Forks on the way to this entry are also marked as used: they stay useful
            // for longer.
            let (forks, rest) = std::mem::take(&mut self.entries)
                .into_iter()
                .partition(|e| {
                    e.is_fork && e.scope == entry.scope && prompt.starts_with(&e.tokens)
                });
            self.entries = rest;
            Vec::extend(&mut self.entries, Vec::into_iter(forks));
            self.entries.push(entry);
        }
        Some(hit)
    }

    /// After how many tokens a prompt diverges from the most similar cached one; 0 if these are
    /// too few to be useful.
    pub fn divergence(&self, scope: impl Into<CacheScope>, prompt: &[i32]) -> usize {
        let shared = self.shared(scope.into(), prompt).map(|(_, tokens)| tokens);
        shared.max().filter(|n| *n >= USE_MIN).unwrap_or(0)
    }

    /// After how many tokens of a prompt others are known to diverge from it.
    pub fn forks(&self, scope: CacheScope, prompt: &[i32]) -> impl Iterator<Item = usize> {
        self.shared(scope, prompt)
            .map(|(at, tokens)| (&self.entries[at], tokens))
            .filter(|(entry, tokens)| entry.is_fork && *tokens == entry.tokens.len())
            .map(|(_, tokens)| tokens)
    }

    /// Which entries this scope may use, and how many tokens each shares with a prompt.
    fn shared(&self, scope: CacheScope, prompt: &[i32]) -> impl Iterator<Item = (usize, usize)> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(move |(_, entry)| scope.may_use(entry.scope))
            .map(move |(at, entry)| (at, common_prefix(&entry.tokens, prompt)))
    }

    /// Whether this scope has an entry with exactly these tokens.
    pub fn has(&self, scope: impl Into<CacheScope>, tokens: &[i32]) -> bool {
        let scope = scope.into();
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.scope == scope && entry.tokens == tokens)
    }

    /// Inserts a sequence; returns the sequence numbers that become free: of the least recently
    /// used if there are too many, of those that it makes redundant, or its own.
    #[must_use]
    pub fn insert(
        &mut self,
        seq: u32,
        scope: impl Into<CacheScope>,
        tokens: Vec<i32>,
        lengths: &Lengths,
    ) -> Vec<u32> {
        let (kind, scope) = (self.kind, scope.into());
        let covered = |entry: &Entry| {
            entry.scope == scope
                && entry.tokens.starts_with(&tokens)
                && (entry.tokens.len() == tokens.len() || kind.can_cut(entry.tokens.len()))
        };
        if tokens.is_empty()
            || tokens.len() > self.tokens_max
            || self.entries_max == 0
            || self.entries.iter().any(covered)
        {
            return vec![seq];
        }
        let mut free = Vec::new();
        self.entries.retain(|entry| {
            let useless = entry.scope == scope
                && tokens.starts_with(&entry.tokens)
                && (kind.can_cut(tokens.len())
                    || !entry.is_fork && !lengths.boundaries.contains(&entry.tokens.len()));
            if useless {
                free.push(entry.seq);
            }
            !useless
        });
        self.entries.push(Entry {
            seq,
            scope,
            prompt: lengths.prompt.min(tokens.len()),
            stable: self.stable_of(&tokens, lengths),
            is_fork: lengths.stable == tokens.len(),
            tokens,
        });
        while self.entries.len() > self.entries_max || self.tokens() > self.tokens_max {
            free.extend(self.evict());
        }
        free
    }

    /// Length of the stable prefix to write to disk. If a sequence cannot be cut, only an entry
    /// that is exactly the stable prefix has one.
    fn stable_of(&self, tokens: &[i32], lengths: &Lengths) -> usize {
        if self.kind.needs_checkpoints() && lengths.stable != tokens.len() {
            return 0;
        }
        lengths.stable.min(tokens.len())
    }

    /// A stable prefix that was not taken yet, the most recently used first.
    pub fn take_stable(&mut self) -> Option<StablePrefix> {
        let entry = self.entries.iter_mut().rev().find(|e| e.stable > 0)?;
        let stable = std::mem::take(&mut entry.stable);
        Some(StablePrefix {
            seq: entry.seq,
            scope: entry.scope,
            tokens: entry.tokens.get(..stable)?.to_vec(),
        })
    }

    /// Whether [`Self::take_stable`] would return something.
    pub fn has_stable(&self) -> bool {
        self.entries.iter().any(|entry| entry.stable > 0)
    }

    /// Removes this user's sequences, or all; returns their numbers.
    #[must_use]
    pub fn forget(&mut self, uid: Option<u32>) -> Vec<u32> {
        let (gone, keep) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| uid.is_none() || entry.scope.uid == uid);
        self.entries = keep;
        Vec::into_iter(gone).map(|entry| entry.seq).collect()
    }

    /// Removes the least recently used sequence; returns its number, which is then free.
    pub fn evict(&mut self) -> Option<u32> {
        (!self.entries.is_empty()).then(|| self.entries.remove(0).seq)
    }

    /// KV cache cells that all entries take together: common prefixes of one user's sequences
    /// share cells.
    fn tokens(&self) -> usize {
        let mut all: Vec<(CacheScope, &[i32])> = self
            .entries
            .iter()
            .map(|entry| (entry.scope, entry.tokens.as_slice()))
            .collect();
        all.sort_unstable();
        let mut last: (CacheScope, &[i32]) = (CacheScope::default(), &[]);
        let mut cells = 0;
        for entry in all {
            let shared = if entry.0 == last.0 {
                common_prefix(entry.1, last.1)
            } else {
                0
            };
            cells += entry.1.len() - shared;
            last = entry;
        }
        cells
    }
}

fn as_u32(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
