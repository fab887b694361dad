//! Which models leave the memory when another one needs room. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use hearth_proto::units::Bytes;

/// A model in memory that may have to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Memory that is free after its end.
    pub frees: Bytes,
    /// Bytes that are read to load it again.
    pub reload: Bytes,
    /// Time since its last use; zero while requests run.
    pub idle: Duration,
    /// Whether requests run, or it was loaded for a request that has not begun.
    pub is_busy: bool,
    /// Whether a keep-alive of a client has not expired: it goes after those without.
    pub is_kept: bool,
    /// Whether an inhibitor or the configuration keeps it in memory: it never goes.
    pub is_held: bool,
}

/// How room is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// These models end now; none if there is room already.
    End(Vec<String>),
    /// These models end once their running requests have; they take no new ones.
    EndAfterWork(Vec<String>),
    /// Not even the end of all models that may end frees enough.
    None,
}

/// Chooses the models that end so that `missing` bytes become free: none that is held, the
/// idle ones first, as few as necessary.
pub fn make_room(candidates: &[Candidate], missing: Bytes) -> Room {
    if missing == Bytes(0) {
        return Room::End(Vec::new());
    }
    let mut order: Vec<&Candidate> = candidates.iter().filter(|c| !c.is_held).collect();
    order.sort_by_key(|c| rank(c));
    let idle: Vec<&Candidate> = order.iter().copied().filter(|c| !c.is_busy).collect();
    if let Some(names) = enough(&idle, missing) {
        return Room::End(names);
    }
    enough(&order, missing).map_or(Room::None, Room::EndAfterWork)
}

/// Idle before busy; without before with a keep-alive; then the least recently used, by powers
/// of two of the idle time; then what is cheapest to load again for each byte that its end
/// frees.
fn rank(candidate: &Candidate) -> (bool, bool, Reverse<u32>, u64, &str) {
    let seconds = candidate.idle.as_secs();
    let age = seconds.checked_ilog2().map_or(0, |log| log + 1);
    let cost = candidate.reload.0.saturating_mul(1024) / candidate.frees.0.max(1);
    (
        candidate.is_busy,
        candidate.is_kept,
        Reverse(age),
        cost,
        &candidate.name,
    )
}

/// The first of `order` that free `missing` bytes, without those that turn out not to be
/// needed for it; `None` if all of them do not.
fn enough(order: &[&Candidate], missing: Bytes) -> Option<Vec<String>> {
    let mut freed = 0u64;
    let mut chosen = Vec::new();
    for candidate in order {
        if freed >= missing.0 {
            break;
        }
        freed = freed.saturating_add(candidate.frees.0);
        chosen.push(*candidate);
    }
    if freed < missing.0 {
        return None;
    }
    // A large model at the end of the list can make the small ones before it unnecessary.
    for at in (0..chosen.len()).rev() {
        let without = freed - chosen[at].frees.0;
        if without >= missing.0 {
            freed = without;
            chosen.remove(at);
        }
    }
    Some(chosen.into_iter().map(|c| c.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, mib: u64, idle_s: u64) -> Candidate {
        Candidate {
            name: name.into(),
            frees: Bytes::mib(mib),
            reload: Bytes::mib(mib),
            idle: Duration::from_secs(idle_s),
            is_busy: false,
            is_kept: false,
            is_held: false,
        }
    }

    fn busy(name: &str, mib: u64) -> Candidate {
        Candidate {
            is_busy: true,
            ..candidate(name, mib, 0)
        }
    }

    fn held(name: &str, mib: u64) -> Candidate {
        Candidate {
            is_held: true,
            ..candidate(name, mib, 9999)
        }
    }

    fn end(names: &[&str]) -> Room {
        Room::End(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_least_recently_used_model_is_unloaded_first() {
        let all = [candidate("new", 500, 1), candidate("old", 500, 4000)];
        assert_eq!(make_room(&all, Bytes::mib(1)), end(&["old"]));
        assert_eq!(make_room(&all, Bytes::mib(501)), end(&["old", "new"]));
        assert_eq!(make_room(&all, Bytes::mib(1001)), Room::None);
        assert_eq!(make_room(&all, Bytes(0)), end(&[]));
    }

    #[test]
    fn models_without_a_keep_alive_are_unloaded_first() {
        let kept = Candidate {
            is_kept: true,
            ..candidate("kept", 500, 4000)
        };
        let all = [kept, candidate("new", 500, 1)];
        assert_eq!(make_room(&all, Bytes::mib(1)), end(&["new"]));
        assert_eq!(make_room(&all, Bytes::mib(501)), end(&["new", "kept"]));
    }

    #[test]
    fn of_equally_old_models_the_cheapest_to_reload_is_unloaded() {
        let dear = Candidate {
            reload: Bytes::mib(900),
            ..candidate("a", 500, 100)
        };
        let cheap = candidate("b", 500, 90);
        assert_eq!(make_room(&[dear, cheap], Bytes::mib(1)), end(&["b"]));
    }

    #[test]
    fn held_models_stay_and_busy_ones_are_waited_for() {
        let all = [held("h", 1000), busy("w", 300), candidate("i", 200, 5)];
        assert_eq!(make_room(&all, Bytes::mib(200)), end(&["i"]));
        let later = make_room(&all, Bytes::mib(300));
        assert_eq!(later, Room::EndAfterWork(vec!["w".into()]));
        let both = make_room(&all, Bytes::mib(301));
        assert_eq!(both, Room::EndAfterWork(vec!["i".into(), "w".into()]));
        assert_eq!(make_room(&all, Bytes::mib(501)), Room::None);
    }

    #[test]
    fn models_that_do_not_help_are_not_unloaded() {
        let all = [candidate("small", 30, 9000), candidate("large", 900, 10)];
        assert_eq!(make_room(&all, Bytes::mib(800)), end(&["large"]));
        assert_eq!(make_room(&all, Bytes::mib(20)), end(&["small"]));
    }

    proptest! {
        /// What is chosen frees enough, holds nothing that is held, and is minimal.
        #[test]
        fn the_chosen_models_are_sufficient_and_as_few_as_possible(
            models in prop::collection::vec((1u64..1000, 0u64..5000, any::<bool>(), any::<bool>()), 0..8),
            missing in 1u64..3000,
        ) {
            let all: Vec<Candidate> = models
                .iter()
                .enumerate()
                .map(|(n, (bytes, idle, is_busy, is_held))| Candidate {
                    name: n.to_string(),
                    frees: Bytes(*bytes),
                    reload: Bytes(*bytes),
                    idle: Duration::from_secs(*idle),
                    is_busy: *is_busy,
                    is_kept: false,
                    is_held: *is_held,
                })
                .collect();
            let of = |name: &String| all.iter().find(|c| c.name == *name).unwrap();
            let usable: u64 = all.iter().filter(|c| !c.is_held).map(|c| c.frees.0).sum();
            let (names, waits) = match make_room(&all, Bytes(missing)) {
                Room::End(names) => (names, false),
                Room::EndAfterWork(names) => (names, true),
                Room::None => {
                    prop_assert!(usable < missing);
                    return Ok(());
                }
            };
            let freed: u64 = names.iter().map(|name| of(name).frees.0).sum();
            prop_assert!(freed >= missing);
            for name in &names {
                prop_assert!(!of(name).is_held);
                prop_assert!(freed - of(name).frees.0 < missing, "{name} ends in vain");
            }
            prop_assert_eq!(waits, names.iter().any(|name| of(name).is_busy));
        }
    }
}
