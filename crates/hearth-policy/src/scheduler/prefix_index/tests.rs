use proptest::prelude::*;

use super::*;

const ALL: fn(u32, u32) -> bool = |_, _| true;

fn new(entries_max: usize, tokens_max: usize) -> PrefixIndex {
    PrefixIndex::new(MemoryKind::Full, entries_max, tokens_max)
}

fn insert(index: &mut PrefixIndex, seq: u32, uid: Option<u32>, tokens: Vec<i32>) -> Vec<u32> {
    let lengths = Lengths {
        prompt: tokens.len(),
        ..Lengths::default()
    };
    index.insert(seq, uid, tokens, &lengths)
}

#[test]
fn a_stable_prefix_is_taken_once() {
    let mut index = new(4, 100);
    let lengths = Lengths {
        prompt: 4,
        stable: 2,
        boundaries: vec![2],
    };
    assert!(
        index
            .insert(3, Some(1), vec![1, 2, 3, 4, 5], &lengths)
            .is_empty()
    );
    assert!(index.has_stable());
    let stable = index.take_stable().unwrap();
    assert_eq!((stable.seq, stable.tokens), (3, vec![1, 2]));
    assert!(!index.has_stable() && index.take_stable().is_none());
    // The conversation continues, a second one begins alike, a third is not longer.
    let diverges = |index: &mut PrefixIndex, tokens: &[i32]| {
        index
            .find(Some(1), tokens, usize::MAX, ALL)
            .unwrap()
            .diverges
    };
    assert!(!diverges(&mut index, &[1, 2, 3, 4, 5, 6]));
    assert!(diverges(&mut index, &[1, 2, 9]));
    assert!(!diverges(&mut index, &[1, 2]));
}

#[test]
fn the_longest_common_prefix_is_found() {
    let mut index = new(4, 100);
    assert_eq!(index.find(None, &[1], usize::MAX, ALL), None);
    assert!(insert(&mut index, 0, None, vec![1, 2, 3]).is_empty());
    assert!(insert(&mut index, 1, None, vec![1, 2, 4, 5]).is_empty());
    let hit = |seq, tokens| Some((seq, tokens));
    let mut find = |prompt: &[i32]| {
        index
            .find(None, prompt, usize::MAX, ALL)
            .map(|h| (h.seq, h.tokens))
    };
    assert_eq!(find(&[1, 2, 4, 9]), hit(1, 3));
    assert_eq!(find(&[1, 2, 3]), hit(0, 3));
    assert_eq!(find(&[2]), None);
}

#[test]
fn prefixes_of_other_users_are_not_used() {
    let mut index = new(4, 100);
    assert!(insert(&mut index, 0, Some(1000), vec![1, 2, 3]).is_empty());
    assert_eq!(index.find(Some(1001), &[1, 2, 3], usize::MAX, ALL), None);
    assert!(
        index
            .find(Some(1000), &[1, 2, 3], usize::MAX, ALL)
            .is_some()
    );
    assert!(insert(&mut index, 1, None, vec![1, 2]).is_empty());
    assert_eq!(
        index
            .find(Some(1001), &[1, 2, 3], usize::MAX, ALL)
            .map(|h| h.seq),
        Some(1)
    );
}

#[test]
fn forgetting_removes_one_users_prefixes_only() {
    let mut index = new(4, 100);
    for (seq, uid) in [(0, Some(1000)), (1, Some(1001)), (2, None)] {
        assert!(insert(&mut index, seq, uid, vec![1, 2]).is_empty());
    }
    assert_eq!(index.forget(Some(1000)), [0]);
    assert_eq!(index.forget(None), [1, 2]);
    assert!(index.is_empty());
}

#[test]
fn the_least_recently_used_prefix_is_evicted_first() {
    let mut index = new(2, 100);
    let text = |n: i32| vec![n; USE_MIN];
    assert!(insert(&mut index, 0, None, text(1)).is_empty());
    assert!(insert(&mut index, 1, None, text(2)).is_empty());
    index.find(None, &text(1), usize::MAX, ALL).unwrap();
    assert_eq!(insert(&mut index, 2, None, text(3)), [1]);
    assert_eq!(index.evict(), Some(0));
    assert_eq!(insert(&mut index, 5, None, vec![0; 101]), [5]);
    assert_eq!(insert(&mut index, 6, None, vec![9; 100]), [2]);
    assert_eq!(index.len(), 1);
}

#[test]
fn short_common_prefixes_do_not_count_as_use() {
    let mut index = new(2, 100);
    let text = |n: i32| [vec![0; USE_MIN - 1], vec![n; 20]].concat();
    assert!(insert(&mut index, 0, None, text(1)).is_empty());
    assert!(insert(&mut index, 1, None, text(2)).is_empty());
    let hit = index.find(
        None,
        &[vec![0; USE_MIN - 1], vec![1]].concat(),
        usize::MAX,
        ALL,
    );
    assert_eq!(hit.map(|h| h.seq), Some(0));
    let short = index.find(None, &[0, 9], usize::MAX, |seq, _| seq == 0);
    assert_eq!(short.map(|h| (h.seq, h.tokens)), Some((0, 1)));
    assert_eq!(index.divergence(None, &[0, 9]), 0);
    assert_eq!(index.divergence(None, &text(1)[..20]), 20);
    // The first one was used for a full `USE_MIN` only.
    assert_eq!(insert(&mut index, 2, None, text(3)), [1]);
    index
        .find(None, &[0, 9], usize::MAX, |seq, _| seq == 0)
        .unwrap();
    assert_eq!(insert(&mut index, 3, None, text(4)), [0]);
}

#[test]
fn states_are_kept_at_their_boundaries() {
    let mut index = PrefixIndex::new(MemoryKind::Recurrent, 8, 100);
    let text: Vec<i32> = (0..40).collect();
    let lengths = |prompt| Lengths {
        prompt,
        stable: 10,
        boundaries: vec![10, prompt - 1],
    };
    for (seq, end) in [(0, 10), (1, 19), (2, 25)] {
        let tokens = text[..end].to_vec();
        assert!(index.insert(seq, None, tokens, &lengths(20)).is_empty());
    }
    assert_eq!(index.tokens(), 25);
    assert_eq!(
        index.insert(3, None, text[..19].to_vec(), &lengths(20)),
        [3]
    );
    let stable = index.take_stable().unwrap();
    assert_eq!((stable.seq, stable.tokens.len()), (0, 10));
    assert!(!index.has_stable());
    // Only whole ones can be used; where they diverge is known nevertheless.
    let whole = |seq, tokens| [10, 19, 25].get(seq as usize) == Some(&tokens);
    let find = |index: &mut PrefixIndex, end| {
        index
            .find(None, &text[..end], usize::MAX, whole)
            .map(|h| h.tokens)
    };
    assert_eq!(find(&mut index, 30), Some(25));
    assert_eq!(find(&mut index, 24), Some(19));
    assert_eq!(
        (find(&mut index, 9), index.divergence(None, &text[..24])),
        (None, 24)
    );
    // The next turn: its boundaries are index, those of the last turn are removed.
    let next = Lengths {
        prompt: 35,
        boundaries: vec![34],
        ..Lengths::default()
    };
    let mut free = index.insert(4, None, text[..34].to_vec(), &next);
    free.sort_unstable();
    assert_eq!(free, [1, 2]);
    assert!(index.has(None, &text[..10]) && !index.has(None, &text[..19]));
}

#[test]
fn a_longer_prefix_replaces_its_beginning() {
    let mut index = new(4, 100);
    assert!(insert(&mut index, 0, None, vec![1, 2]).is_empty());
    assert_eq!(insert(&mut index, 1, None, vec![1, 2, 3]), [0]);
    assert_eq!(insert(&mut index, 2, None, vec![1, 2]), [2]);
    assert_eq!(index.len(), 1);
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
        let mut index = new(entries_max, tokens_max);
        let mut held = std::collections::HashMap::new();
        for (seq, (uid, tokens)) in (0u32..).zip(steps) {
            if let Some(hit) = index.find(uid, &tokens, usize::MAX, ALL) {
                let (owner, found): &(Option<u32>, Vec<i32>) = &held[&hit.seq];
                let n = hit.tokens as usize;
                prop_assert_eq!(&found[..n], &tokens[..n]);
                prop_assert!(owner.is_none() || *owner == uid);
            }
            held.insert(seq, (uid, tokens.clone()));
            for free in insert(&mut index, seq, uid, tokens) {
                prop_assert!(held.remove(&free).is_some());
            }
            prop_assert_eq!(held.len(), index.len());
            prop_assert!(index.len() <= entries_max && index.tokens() <= tokens_max);
        }
    }
}

#[test]
fn nothing_is_shared_between_sets_of_adapters() {
    let mut index = PrefixIndex::new(MemoryKind::Full, 8, 1000);
    let scope = |adapters| CacheScope {
        uid: Some(1),
        adapters,
    };
    let tokens = vec![5; 40];
    for (seq, adapters) in [(0, 0), (1, 7)] {
        let free = index.insert(seq, scope(adapters), tokens.clone(), &Lengths::default());
        assert!(free.is_empty());
    }
    let mut found = |adapters| {
        let hit = index.find(scope(adapters), &tokens, usize::MAX, ALL);
        hit.map(|hit| hit.seq)
    };
    assert_eq!((found(0), found(7), found(8)), (Some(0), Some(1), None));
    assert_eq!(index.divergence(scope(8), &tokens), 0);
    assert!(index.has(scope(7), &tokens) && !index.has(scope(8), &tokens));
    // Their cells are not shared either.
    assert_eq!(index.tokens(), 80);
    assert_eq!(index.forget(Some(1)).len(), 2);
}
