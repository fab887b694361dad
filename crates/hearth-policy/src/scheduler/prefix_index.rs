//! The prefix cache in memory: finished sequences whose keys and values stay in the KV
//! cache, looked up by their longest common prefix with a new prompt.
//!
//! Only tokens that are equal one by one are used, and a caller gets only what the same
//! user's requests left (or shared entries), since the time to the first token would reveal
//! earlier prompts to other users.
//!
//! If a sequence cannot be cut anywhere ([`MemoryKind`]), copies of it are kept that end
//! at its boundaries: checkpoints.

use super::memory::MemoryKind;

/// A shorter common prefix saves too little time: nearly all prompts share the
/// beginning-of-sequence token and the first words of a template.
const USE_MIN: usize = 16;

/// Finished sequences, by the number of their place in the KV cache.
#[derive(Clone, Debug)]
pub struct Kept {
    kind: MemoryKind,
    /// Least recently used first.
    entries: Vec<Entry>,
    entries_max: usize,
    tokens_max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    seq: u32,
    uid: Option<u32>,
    tokens: Vec<i32>,
    /// Tokens of the prompt; the answer's follow.
    prompt: usize,
    /// Length of the prefix that other prompts are likely to share; 0 if there is none, or
    /// [`Kept::take_stable`] has returned it.
    stable: usize,
    /// Whether it ends where two prompts diverge: it stays useful when one of them is
    /// continued.
    is_fork: bool,
}

/// A prefix that is worth writing to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stable {
    /// Number of the sequence in the KV cache.
    pub seq: u32,
    /// The user that it belongs to; `None`: shared.
    pub uid: Option<u32>,
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

impl Kept {
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
        uid: Option<u32>,
        prompt: &[i32],
        most: usize,
        is_usable: impl Fn(u32, u32) -> bool,
    ) -> Option<Hit> {
        let (at, shared) = self
            .shared(uid, prompt)
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
                .partition(|e| e.is_fork && e.uid == entry.uid && prompt.starts_with(&e.tokens));
            self.entries = rest;
            Vec::extend(&mut self.entries, Vec::into_iter(forks));
            self.entries.push(entry);
        }
        Some(hit)
    }

    /// After how many tokens a prompt diverges from the most similar cached one; 0 if these are
    /// too few to be useful.
    pub fn parts_after(&self, uid: Option<u32>, prompt: &[i32]) -> usize {
        let shared = self.shared(uid, prompt).map(|(_, tokens)| tokens);
        shared.max().filter(|n| *n >= USE_MIN).unwrap_or(0)
    }

    /// After how many tokens of a prompt others are known to diverge from it.
    pub fn forks(&self, uid: Option<u32>, prompt: &[i32]) -> impl Iterator<Item = usize> {
        self.shared(uid, prompt)
            .map(|(at, tokens)| (&self.entries[at], tokens))
            .filter(|(entry, tokens)| entry.is_fork && *tokens == entry.tokens.len())
            .map(|(_, tokens)| tokens)
    }

    /// Which entries this user may use, and how many tokens each shares with a prompt.
    fn shared(&self, uid: Option<u32>, prompt: &[i32]) -> impl Iterator<Item = (usize, usize)> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(move |(_, entry)| entry.uid.is_none() || entry.uid == uid)
            .map(|(at, entry)| (at, common_prefix(&entry.tokens, prompt)))
    }

    /// Whether this user has an entry with exactly these tokens.
    pub fn has(&self, uid: Option<u32>, tokens: &[i32]) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.uid == uid && entry.tokens == tokens)
    }

    /// Inserts a sequence; returns the sequence numbers that become free: of the least recently
    /// used if there are too many, of those that it makes redundant, or its own.
    #[must_use]
    pub fn insert(
        &mut self,
        seq: u32,
        uid: Option<u32>,
        tokens: Vec<i32>,
        lengths: &Lengths,
    ) -> Vec<u32> {
        let kind = self.kind;
        let covered = |entry: &Entry| {
            entry.uid == uid
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
            let useless = entry.uid == uid
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
            uid,
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
    pub fn take_stable(&mut self) -> Option<Stable> {
        let entry = self.entries.iter_mut().rev().find(|e| e.stable > 0)?;
        let stable = std::mem::take(&mut entry.stable);
        Some(Stable {
            seq: entry.seq,
            uid: entry.uid,
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
            .partition(|entry| uid.is_none() || entry.uid == uid);
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
        let mut all: Vec<(Option<u32>, &[i32])> = self
            .entries
            .iter()
            .map(|entry| (entry.uid, entry.tokens.as_slice()))
            .collect();
        all.sort_unstable();
        let mut last: (Option<u32>, &[i32]) = (None, &[]);
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

/// Length of the common prefix, in tokens.
fn common_prefix(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: fn(u32, u32) -> bool = |_, _| true;

    fn new(entries_max: usize, tokens_max: usize) -> Kept {
        Kept::new(MemoryKind::Full, entries_max, tokens_max)
    }

    fn insert(kept: &mut Kept, seq: u32, uid: Option<u32>, tokens: Vec<i32>) -> Vec<u32> {
        let lengths = Lengths {
            prompt: tokens.len(),
            ..Lengths::default()
        };
        kept.insert(seq, uid, tokens, &lengths)
    }

    #[test]
    fn stable_beginnings_are_taken_once() {
        let mut kept = new(4, 100);
        let lengths = Lengths {
            prompt: 4,
            stable: 2,
            boundaries: vec![2],
        };
        assert!(
            kept.insert(3, Some(1), vec![1, 2, 3, 4, 5], &lengths)
                .is_empty()
        );
        assert!(kept.has_stable());
        let stable = kept.take_stable().unwrap();
        assert_eq!((stable.seq, stable.tokens), (3, vec![1, 2]));
        assert!(!kept.has_stable() && kept.take_stable().is_none());
        // The conversation continues, a second one begins alike, a third is not longer.
        let diverges = |kept: &mut Kept, tokens: &[i32]| {
            kept.find(Some(1), tokens, usize::MAX, ALL)
                .unwrap()
                .diverges
        };
        assert!(!diverges(&mut kept, &[1, 2, 3, 4, 5, 6]));
        assert!(diverges(&mut kept, &[1, 2, 9]));
        assert!(!diverges(&mut kept, &[1, 2]));
    }

    #[test]
    fn the_longest_common_prefix_is_found() {
        let mut kept = new(4, 100);
        assert_eq!(kept.find(None, &[1], usize::MAX, ALL), None);
        assert!(insert(&mut kept, 0, None, vec![1, 2, 3]).is_empty());
        assert!(insert(&mut kept, 1, None, vec![1, 2, 4, 5]).is_empty());
        let hit = |seq, tokens| Some((seq, tokens));
        let mut find = |prompt: &[i32]| {
            kept.find(None, prompt, usize::MAX, ALL)
                .map(|h| (h.seq, h.tokens))
        };
        assert_eq!(find(&[1, 2, 4, 9]), hit(1, 3));
        assert_eq!(find(&[1, 2, 3]), hit(0, 3));
        assert_eq!(find(&[2]), None);
    }

    #[test]
    fn what_another_user_left_is_not_used() {
        let mut kept = new(4, 100);
        assert!(insert(&mut kept, 0, Some(1000), vec![1, 2, 3]).is_empty());
        assert_eq!(kept.find(Some(1001), &[1, 2, 3], usize::MAX, ALL), None);
        assert!(kept.find(Some(1000), &[1, 2, 3], usize::MAX, ALL).is_some());
        assert!(insert(&mut kept, 1, None, vec![1, 2]).is_empty());
        assert_eq!(
            kept.find(Some(1001), &[1, 2, 3], usize::MAX, ALL)
                .map(|h| h.seq),
            Some(1)
        );
    }

    #[test]
    fn one_users_are_forgotten_alone() {
        let mut kept = new(4, 100);
        for (seq, uid) in [(0, Some(1000)), (1, Some(1001)), (2, None)] {
            assert!(insert(&mut kept, seq, uid, vec![1, 2]).is_empty());
        }
        assert_eq!(kept.forget(Some(1000)), [0]);
        assert_eq!(kept.forget(None), [1, 2]);
        assert!(kept.is_empty());
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept = new(2, 100);
        let text = |n: i32| vec![n; USE_MIN];
        assert!(insert(&mut kept, 0, None, text(1)).is_empty());
        assert!(insert(&mut kept, 1, None, text(2)).is_empty());
        kept.find(None, &text(1), usize::MAX, ALL).unwrap();
        assert_eq!(insert(&mut kept, 2, None, text(3)), [1]);
        assert_eq!(kept.evict(), Some(0));
        assert_eq!(insert(&mut kept, 5, None, vec![0; 101]), [5]);
        assert_eq!(insert(&mut kept, 6, None, vec![9; 100]), [2]);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn what_every_text_begins_with_is_no_use() {
        let mut kept = new(2, 100);
        let text = |n: i32| [vec![0; USE_MIN - 1], vec![n; 20]].concat();
        assert!(insert(&mut kept, 0, None, text(1)).is_empty());
        assert!(insert(&mut kept, 1, None, text(2)).is_empty());
        let hit = kept.find(
            None,
            &[vec![0; USE_MIN - 1], vec![1]].concat(),
            usize::MAX,
            ALL,
        );
        assert_eq!(hit.map(|h| h.seq), Some(0));
        let short = kept.find(None, &[0, 9], usize::MAX, |seq, _| seq == 0);
        assert_eq!(short.map(|h| (h.seq, h.tokens)), Some((0, 1)));
        assert_eq!(kept.parts_after(None, &[0, 9]), 0);
        assert_eq!(kept.parts_after(None, &text(1)[..20]), 20);
        // The first one was used for a full `USE_MIN` only.
        assert_eq!(insert(&mut kept, 2, None, text(3)), [1]);
        kept.find(None, &[0, 9], usize::MAX, |seq, _| seq == 0)
            .unwrap();
        assert_eq!(insert(&mut kept, 3, None, text(4)), [0]);
    }

    #[test]
    fn what_cannot_be_cut_is_kept_at_its_boundaries() {
        let mut kept = Kept::new(MemoryKind::Recurrent, 8, 100);
        let text: Vec<i32> = (0..40).collect();
        let lengths = |prompt| Lengths {
            prompt,
            stable: 10,
            boundaries: vec![10, prompt - 1],
        };
        for (seq, end) in [(0, 10), (1, 19), (2, 25)] {
            let tokens = text[..end].to_vec();
            assert!(kept.insert(seq, None, tokens, &lengths(20)).is_empty());
        }
        assert_eq!(kept.tokens(), 25);
        assert_eq!(kept.insert(3, None, text[..19].to_vec(), &lengths(20)), [3]);
        let stable = kept.take_stable().unwrap();
        assert_eq!((stable.seq, stable.tokens.len()), (0, 10));
        assert!(!kept.has_stable());
        // Only whole ones can be used; where they diverge is known nevertheless.
        let whole = |seq, tokens| [10, 19, 25].get(seq as usize) == Some(&tokens);
        let find = |kept: &mut Kept, end| {
            kept.find(None, &text[..end], usize::MAX, whole)
                .map(|h| h.tokens)
        };
        assert_eq!(find(&mut kept, 30), Some(25));
        assert_eq!(find(&mut kept, 24), Some(19));
        assert_eq!(
            (find(&mut kept, 9), kept.parts_after(None, &text[..24])),
            (None, 24)
        );
        // The next turn: its boundaries are kept, those of the last turn are removed.
        let next = Lengths {
            prompt: 35,
            boundaries: vec![34],
            ..Lengths::default()
        };
        let mut free = kept.insert(4, None, text[..34].to_vec(), &next);
        free.sort_unstable();
        assert_eq!(free, [1, 2]);
        assert!(kept.has(None, &text[..10]) && !kept.has(None, &text[..19]));
    }

    #[test]
    fn a_longer_one_takes_the_place_of_its_beginning() {
        let mut kept = new(4, 100);
        assert!(insert(&mut kept, 0, None, vec![1, 2]).is_empty());
        assert_eq!(insert(&mut kept, 1, None, vec![1, 2, 3]), [0]);
        assert_eq!(insert(&mut kept, 2, None, vec![1, 2]), [2]);
        assert_eq!(kept.len(), 1);
    }

    proptest! {
        /// What is found is equal token by token, bounds hold, and every sequence number is
        /// either in use or returned, once.
        #[test]
        fn only_equal_prefixes_are_found(
            steps in prop::collection::vec((prop::option::of(0u32..2), prop::collection::vec(0i32..3, 0..8)), 1..60),
            entries_max in 0usize..5,
            tokens_max in 0usize..30,
        ) {
            let mut kept = new(entries_max, tokens_max);
            let mut held = std::collections::HashMap::new();
            for (seq, (uid, tokens)) in (0u32..).zip(steps) {
                if let Some(hit) = kept.find(uid, &tokens, usize::MAX, ALL) {
                    let (owner, found): &(Option<u32>, Vec<i32>) = &held[&hit.seq];
                    let n = hit.tokens as usize;
                    prop_assert_eq!(&found[..n], &tokens[..n]);
                    prop_assert!(owner.is_none() || *owner == uid);
                }
                held.insert(seq, (uid, tokens.clone()));
                for free in insert(&mut kept, seq, uid, tokens) {
                    prop_assert!(held.remove(&free).is_some());
                }
                prop_assert_eq!(held.len(), kept.len());
                prop_assert!(kept.len() <= entries_max && kept.tokens() <= tokens_max);
            }
        }
    }
}
