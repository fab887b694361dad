//! Who wants the model to stay in memory. Pure.

use std::collections::BTreeMap;

/// The most holds that one caller may have: each is forgotten only by its owner.
const HOLDS_MAX: usize = 64;

/// All holds, by cookie.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    owners: BTreeMap<u32, String>,
    last: u32,
}

impl Holds {
    /// Whether nobody holds the model.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Adds a hold of `owner`; returns its cookie, or `None` where it has too many.
    pub(super) fn add(&mut self, owner: &str) -> Option<u32> {
        let owned = self.owners.values().filter(|other| *other == owner);
        if owned.count() >= HOLDS_MAX {
            return None;
        }
        // After four thousand million of them the first are used again.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.owners.contains_key(&self.last) {
                break;
            }
        }
        self.owners.insert(self.last, owner.to_owned());
        Some(self.last)
    }

    /// Ends a hold; only its owner can. Whether there was one.
    pub(super) fn release(&mut self, owner: &str, cookie: u32) -> bool {
        let owns = self.owners.get(&cookie).is_some_and(|o| o == owner);
        if owns {
            self.owners.remove(&cookie);
        }
        owns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_ends_a_hold() {
        let mut holds = Holds::default();
        let one = holds.add(":1.1").unwrap();
        let two = holds.add(":1.2").unwrap();
        assert_ne!(one, two);
        assert!(!holds.release(":1.2", one));
        assert!(holds.release(":1.1", one) && !holds.release(":1.1", one));
        assert!(!holds.is_empty() && holds.release(":1.2", two) && holds.is_empty());
        for _ in 0..HOLDS_MAX {
            holds.add(":1.3").unwrap();
        }
        assert_eq!(holds.add(":1.3"), None);
        assert!(holds.add(":1.4").is_some());
    }
}
