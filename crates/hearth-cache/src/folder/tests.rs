use proptest::prelude::*;

use super::*;

const IDENTITY: Identity = Identity {
    fingerprint: 1,
    settings: 2,
};
const ALL: fn(u32, u32) -> bool = |_, _| true;
const DAY: Duration = Duration::from_hours(24);

fn limits(folder: &Path) -> DiskCache {
    DiskCache {
        folder: folder.to_owned(),
        max_bytes: 10_000,
        daily_write_bytes: 100_000,
        min_tokens: 2,
    }
}

fn open(folder: &Path) -> Folder {
    Folder::open(limits(folder), IDENTITY).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 86_400 + seconds)
}

fn keep(folder: &mut Folder, now: SystemTime, owner: Option<u32>, tokens: &[i32], size: usize) {
    let payload = vec![7; size];
    assert!(folder.wants(now, owner, tokens, size as u64));
    let pending = folder.begin(owner, tokens.to_vec(), &payload);
    let result = pending.write(&payload);
    folder.finish(now, pending, result);
}

fn count(folder: &Path) -> usize {
    files(folder).len()
}

#[test]
fn a_prompt_is_found_again_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    keep(&mut open(dir.path()), at(0), Some(5), &[1, 2, 3, 4], 100);
    let mut folder = open(dir.path());
    let found = folder.find(Some(5), &[1, 2, 3, 9], 0, ALL).unwrap();
    assert_eq!(found.tokens, 3);
    assert_eq!(folder.read(at(1), &found), Some((vec![7; 100], 4)));
    // Too short, another user's, nothing new, already cached.
    assert_eq!(folder.find(Some(5), &[1, 9], 0, ALL), None);
    assert_eq!(folder.find(Some(6), &[1, 2, 3], 0, ALL), None);
    assert_eq!(folder.find(Some(5), &[1, 2, 3], 3, ALL), None);
    assert!(!folder.wants(at(1), Some(5), &[1, 2, 3], 10));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&files(dir.path())[0]).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn entries_of_other_models_stay_and_of_other_settings_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    keep(&mut open(dir.path()), at(0), None, &[1, 2], 10);
    let other = Identity {
        fingerprint: 9,
        ..IDENTITY
    };
    let folder = Folder::open(limits(dir.path()), other).unwrap();
    assert_eq!(folder.find(None, &[1, 2], 0, ALL), None);
    assert_eq!(count(dir.path()), 1);
    let other = Identity {
        settings: 9,
        ..IDENTITY
    };
    Folder::open(limits(dir.path()), other).unwrap();
    assert_eq!(count(dir.path()), 0);
}

#[test]
fn damaged_files_are_deleted_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    keep(&mut open(dir.path()), at(0), None, &[1, 2, 3], 100);
    let path = files(dir.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, &changed).unwrap();
    let mut folder = open(dir.path());
    let found = folder.find(None, &[1, 2, 3], 0, ALL).unwrap();
    assert_eq!(folder.read(at(1), &found), None);
    assert_eq!(
        (count(dir.path()), folder.find(None, &[1, 2, 3], 0, ALL)),
        (0, None)
    );
    fs::write(&path, &whole[..50]).unwrap();
    open(dir.path());
    assert_eq!(count(dir.path()), 0);
}

#[test]
fn size_and_write_budgets_are_respected() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path());
    for n in 0..5 {
        keep(
            &mut folder,
            at(n),
            None,
            &[9, i32::try_from(n).unwrap()],
            3000,
        );
    }
    // Three of them fit; the least recently used were deleted.
    assert_eq!(count(dir.path()), 3);
    assert_eq!(folder.find(None, &[9, 1], 0, ALL), None);
    assert!(folder.find(None, &[9, 4], 0, ALL).is_some());
    assert!(!folder.wants(at(9), None, &[8, 8], 10_001));
    // The day's budget, also after a restart; the next day has its own.
    folder.limits.daily_write_bytes = 16_000;
    assert!(!folder.wants(at(9), None, &[8, 8], 3000));
    drop(folder);
    let mut folder = open(dir.path());
    folder.limits.daily_write_bytes = 16_000;
    assert!(!folder.wants(at(9), None, &[8, 8], 3000));
    assert!(folder.wants(at(9) + DAY, None, &[8, 8], 3000));
    assert!(!folder.wants(at(9) + DAY, None, &[8], 3000));
}

#[test]
fn a_longer_prompt_replaces_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path());
    keep(&mut folder, at(0), Some(1), &[1, 2], 10);
    keep(&mut folder, at(1), Some(1), &[1, 2, 3], 10);
    assert_eq!(count(dir.path()), 1);
    // Unless the longer one cannot be used for it.
    let mut folder = open(dir.path()).with_beginnings(true);
    keep(&mut folder, at(2), Some(1), &[1, 2], 10);
    keep(&mut folder, at(3), Some(1), &[1, 2, 3, 4], 10);
    assert_eq!(count(dir.path()), 3);
    assert!(!folder.wants(at(4), Some(1), &[1, 2], 10));
}

#[test]
fn writing_pauses_after_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path());
    let pending = folder.begin(None, vec![1, 2], &[7]);
    fs::remove_dir_all(dir.path()).unwrap();
    let result = pending.write(&[7]);
    assert!(result.is_err());
    folder.finish(at(0), pending, result);
    assert!(!folder.wants(at(1), None, &[1, 2], 1));
    assert!(folder.wants(at(0) + QUIET, None, &[1, 2], 1));
}

proptest! {
    /// For any sequence of writes and lookups: what is found is equal token by token and
    /// accessible to the user, and reading it returns what was written.
    #[test]
    fn only_equal_prefixes_are_found(
        steps in prop::collection::vec((prop::option::of(0u32..2), prop::collection::vec(0i32..3, 0..6)), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = open(dir.path());
        for (n, (owner, tokens)) in (0u64..).zip(steps) {
            if let Some(found) = folder.find(owner, &tokens, 0, ALL) {
                let header = file::read_header(&found.path).unwrap();
                let n = found.tokens as usize;
                prop_assert_eq!(&header.tokens[..n], &tokens[..n]);
                prop_assert!(header.scope.uid.is_none() || header.scope.uid == owner);
                prop_assert!(folder.read(at(n as u64), &found).is_some());
            }
            if folder.wants(at(n), owner, &tokens, 10) {
                keep(&mut folder, at(n), owner, &tokens, 10);
            }
        }
    }
}

#[test]
fn a_prompt_with_adapters_is_found_with_the_same_ones_only() {
    let dir = tempfile::tempdir().unwrap();
    let scope = |adapters| CacheScope {
        uid: Some(5),
        adapters,
    };
    let mut folder = open(dir.path());
    for adapters in [0, 7] {
        let payload = vec![adapters; 10];
        let scope = scope(u64::from(adapters));
        assert!(folder.wants(at(0), scope, &[1, 2, 3], 10));
        let pending = folder.begin(scope, vec![1, 2, 3], &payload);
        let result = pending.write(&payload);
        folder.finish(at(0), pending, result);
    }
    let mut folder = open(dir.path());
    assert_eq!(count(dir.path()), 2);
    for adapters in [0, 7] {
        let scope = scope(u64::from(adapters));
        let found = folder.find(scope, &[1, 2, 3], 0, ALL).unwrap();
        assert_eq!(folder.read(at(1), &found), Some((vec![adapters; 10], 3)));
    }
    assert_eq!(folder.find(scope(8), &[1, 2, 3], 0, ALL), None);
    assert!(folder.wants(at(1), scope(8), &[1, 2, 3], 10));
}
