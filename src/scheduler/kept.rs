//! The prompt cache in memory: finished sequences whose keys and values stay in the KV
//! cache, found again by their longest common prefix with a new prompt.
//!
//! Only what is equal token by token is ever used, and a caller only ever gets what the
//! same user's requests left (or what belongs to nobody), since the time to the first
//! token would tell others what was asked before.

/// Finished sequences, by the number of their place in the KV cache.
#[derive(Clone, Debug)]
pub struct Kept {
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
    /// Tokens of the beginning that other prompts are likely to have, too; 0 where
    /// there is none, or it was taken care of.
    stable: usize,
}

/// A beginning that is worth keeping for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stable {
    /// Where the sequence lies in the KV cache.
    pub seq: u32,
    /// Whose it is.
    pub uid: Option<u32>,
    /// The beginning's tokens.
    pub tokens: Vec<i32>,
}

/// How a finished sequence's tokens divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of its stable beginning; 0 where none is known.
    pub stable: usize,
}

/// A kept sequence that begins like a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where it lies in the KV cache.
    pub seq: u32,
    /// How many of the prompt's first tokens it holds.
    pub tokens: u32,
    /// Whether two prompts differ after these tokens: they are a common beginning, not
    /// one conversation that goes on.
    pub diverges: bool,
}

impl Kept {
    /// Keeps at most so many sequences, with at most so many tokens together. Tokens
    /// that two of them share count twice.
    pub fn new(entries_max: usize, tokens_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            entries_max,
            tokens_max,
        }
    }

    /// Changes how many tokens are kept from the next sequence on.
    pub fn set_tokens_max(&mut self, tokens_max: usize) {
        self.tokens_max = tokens_max;
    }

    /// Sequences kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The kept sequence that shares the most tokens with a prompt of this user; it
    /// counts as used now.
    pub fn find(&mut self, uid: Option<u32>, prompt: &[i32]) -> Option<Hit> {
        let shared = |entry: &Entry| common_prefix(&entry.tokens, prompt);
        let (at, tokens) = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.uid.is_none() || entry.uid == uid)
            .map(|(at, entry)| (at, shared(entry)))
            .filter(|(_, tokens)| *tokens > 0)
            .max_by_key(|(_, tokens)| *tokens)?;
        let entry = self.entries.remove(at);
        let seq = entry.seq;
        let diverges = tokens < entry.prompt && tokens < prompt.len();
        self.entries.push(entry);
        Some(Hit {
            seq,
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            diverges,
        })
    }

    /// Keeps a sequence; returns the places that are free again: of those used longest
    /// ago where there are too many, of those that it makes useless, or its own.
    #[must_use]
    pub fn insert(
        &mut self,
        seq: u32,
        uid: Option<u32>,
        tokens: Vec<i32>,
        lengths: Lengths,
    ) -> Vec<u32> {
        let covered = |entry: &Entry| entry.uid == uid && entry.tokens.starts_with(&tokens);
        if tokens.is_empty()
            || tokens.len() > self.tokens_max
            || self.entries_max == 0
            || self.entries.iter().any(covered)
        {
            return vec![seq];
        }
        let mut free = Vec::new();
        self.entries.retain(|entry| {
            let useless = entry.uid == uid && tokens.starts_with(&entry.tokens);
            if useless {
                free.push(entry.seq);
            }
            !useless
        });
        self.entries.push(Entry {
            seq,
            uid,
            prompt: lengths.prompt,
            stable: lengths.stable.min(tokens.len()),
            tokens,
        });
        while self.entries.len() > self.entries_max || self.tokens() > self.tokens_max {
            free.extend(self.evict());
        }
        free
    }

    /// A stable beginning that nobody took yet, those used last first.
    pub fn take_stable(&mut self) -> Option<Stable> {
        let entry = self.entries.iter_mut().rev().find(|e| e.stable > 0)?;
        let stable = std::mem::take(&mut entry.stable);
        Some(Stable {
            seq: entry.seq,
            uid: entry.uid,
            tokens: entry.tokens.get(..stable)?.to_vec(),
        })
    }

    /// Whether [`Self::take_stable`] has something.
    pub fn has_stable(&self) -> bool {
        self.entries.iter().any(|entry| entry.stable > 0)
    }

    /// Forgets this user's sequences, or all; returns their places.
    #[must_use]
    pub fn forget(&mut self, uid: Option<u32>) -> Vec<u32> {
        let (gone, keep) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| uid.is_none() || entry.uid == uid);
        self.entries = keep;
        Vec::into_iter(gone).map(|entry| entry.seq).collect()
    }

    /// Forgets the sequence used longest ago; its place is free then.
    pub fn evict(&mut self) -> Option<u32> {
        (!self.entries.is_empty()).then(|| self.entries.remove(0).seq)
    }

    fn tokens(&self) -> usize {
        self.entries.iter().map(|entry| entry.tokens.len()).sum()
    }
}

/// How many tokens two texts have in common from their beginning.
fn common_prefix(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insert(kept: &mut Kept, seq: u32, uid: Option<u32>, tokens: Vec<i32>) -> Vec<u32> {
        let prompt = tokens.len();
        kept.insert(seq, uid, tokens, Lengths { prompt, stable: 0 })
    }

    #[test]
    fn stable_beginnings_are_taken_once() {
        let mut kept = Kept::new(4, 100);
        let lengths = Lengths {
            prompt: 4,
            stable: 2,
        };
        assert!(
            kept.insert(3, Some(1), vec![1, 2, 3, 4, 5], lengths)
                .is_empty()
        );
        assert!(kept.has_stable());
        let stable = kept.take_stable().unwrap();
        assert_eq!((stable.seq, stable.tokens), (3, vec![1, 2]));
        assert!(!kept.has_stable() && kept.take_stable().is_none());
        // The conversation goes on, a second one begins alike, a third is no longer.
        let diverges =
            |kept: &mut Kept, tokens: &[i32]| kept.find(Some(1), tokens).unwrap().diverges;
        assert!(!diverges(&mut kept, &[1, 2, 3, 4, 5, 6]));
        assert!(diverges(&mut kept, &[1, 2, 9]));
        assert!(!diverges(&mut kept, &[1, 2]));
    }

    #[test]
    fn the_longest_common_prefix_is_found() {
        let mut kept = Kept::new(4, 100);
        assert_eq!(kept.find(None, &[1]), None);
        assert!(insert(&mut kept, 0, None, vec![1, 2, 3]).is_empty());
        assert!(insert(&mut kept, 1, None, vec![1, 2, 4, 5]).is_empty());
        let hit = |seq, tokens| Some((seq, tokens));
        let mut find = |prompt: &[i32]| kept.find(None, prompt).map(|h| (h.seq, h.tokens));
        assert_eq!(find(&[1, 2, 4, 9]), hit(1, 3));
        assert_eq!(find(&[1, 2, 3]), hit(0, 3));
        assert_eq!(find(&[2]), None);
    }

    #[test]
    fn what_another_user_left_is_not_used() {
        let mut kept = Kept::new(4, 100);
        assert!(insert(&mut kept, 0, Some(1000), vec![1, 2, 3]).is_empty());
        assert_eq!(kept.find(Some(1001), &[1, 2, 3]), None);
        assert!(kept.find(Some(1000), &[1, 2, 3]).is_some());
        assert!(insert(&mut kept, 1, None, vec![1, 2]).is_empty());
        assert_eq!(kept.find(Some(1001), &[1, 2, 3]).map(|h| h.seq), Some(1));
    }

    #[test]
    fn one_users_are_forgotten_alone() {
        let mut kept = Kept::new(4, 100);
        for (seq, uid) in [(0, Some(1000)), (1, Some(1001)), (2, None)] {
            assert!(insert(&mut kept, seq, uid, vec![1, 2]).is_empty());
        }
        assert_eq!(kept.forget(Some(1000)), [0]);
        assert_eq!(kept.forget(None), [1, 2]);
        assert!(kept.is_empty());
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept = Kept::new(2, 100);
        assert!(insert(&mut kept, 0, None, vec![1]).is_empty());
        assert!(insert(&mut kept, 1, None, vec![2]).is_empty());
        kept.find(None, &[1]).unwrap();
        assert_eq!(insert(&mut kept, 2, None, vec![3]), [1]);
        assert_eq!(kept.evict(), Some(0));
        assert_eq!(insert(&mut kept, 5, None, vec![0; 101]), [5]);
        assert_eq!(insert(&mut kept, 6, None, vec![9; 100]), [2]);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn a_longer_one_takes_the_place_of_its_beginning() {
        let mut kept = Kept::new(4, 100);
        assert!(insert(&mut kept, 0, None, vec![1, 2]).is_empty());
        assert_eq!(insert(&mut kept, 1, None, vec![1, 2, 3]), [0]);
        assert_eq!(insert(&mut kept, 2, None, vec![1, 2]), [2]);
        assert_eq!(kept.len(), 1);
    }

    proptest! {
        /// What is found is equal token by token, bounds hold, and every place is
        /// either kept or given back, once.
        #[test]
        fn only_equal_prefixes_are_found(
            steps in prop::collection::vec((prop::option::of(0u32..2), prop::collection::vec(0i32..3, 0..8)), 1..60),
            entries_max in 0usize..5,
            tokens_max in 0usize..30,
        ) {
            let mut kept = Kept::new(entries_max, tokens_max);
            let mut held = std::collections::HashMap::new();
            for (seq, (uid, tokens)) in (0u32..).zip(steps) {
                if let Some(hit) = kept.find(uid, &tokens) {
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
