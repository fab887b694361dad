//! Resources that all callers share, with a limit for each of them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::caller::Principal;

/// Counts the use of a limited resource. Nobody gets more than half: whatever one user
/// does, some of it is left for others.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Principal, usize>,
}

/// A part that is taken; it is given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    who: Principal,
    amount: usize,
}

impl Shares {
    /// Takes `amount` for a caller if the total stays within `max`; `None` if that is too
    /// much for this caller or for all.
    pub(super) fn take(&self, who: Principal, amount: usize, max: usize) -> Option<Share> {
        let mut share = Share {
            shares: self.clone(),
            who,
            amount: 0,
        };
        share.grow(amount, max).then_some(share)
    }
}

impl Share {
    /// Takes more if enough is left; else the share stays as it was.
    pub(super) fn grow(&mut self, more: usize, max: usize) -> bool {
        let mut taken = self.shares.0.lock();
        let own = taken.by.get(&self.who).copied().unwrap_or_default();
        let (all, own) = (taken.all.saturating_add(more), own.saturating_add(more));
        if all > max || own > max.div_ceil(2) {
            return false;
        }
        taken.all = all;
        taken.by.insert(self.who, own);
        self.amount += more;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.0.lock();
        taken.all = taken.all.saturating_sub(self.amount);
        if let Some(own) = taken.by.get_mut(&self.who) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_gets_more_than_half() {
        let shares = Shares::default();
        let mut mine = shares.take(Principal::Uid(1), 4, 10).unwrap();
        assert!(!mine.grow(2, 10));
        assert!(mine.grow(1, 10));
        assert!(shares.take(Principal::Uid(1), 1, 10).is_none());
        // Clients over TCP count as one caller without a user.
        let other = shares.take(Principal::Anonymous, 5, 10).unwrap();
        assert!(shares.take(Principal::Uid(2), 1, 10).is_none());
        drop(mine);
        assert!(shares.take(Principal::Uid(2), 1, 10).is_some());
        drop(other);
        assert!(shares.0.lock().by.is_empty());
        // If there is only one, one caller gets it.
        assert!(shares.take(Principal::Uid(1), 1, 1).is_some());
        assert!(shares.take(Principal::Uid(1), 1, 0).is_none());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_is_held(steps in prop::collection::vec((0_u32..4, 0_usize..9, any::<bool>()), 1..60)) {
            let shares = Shares::default();
            let mut held: Vec<Share> = Vec::new();
            for (who, amount, give) in steps {
                if give {
                    held.pop();
                } else if let Some(last) = held.last_mut().filter(|last| last.who == Principal::Uid(who)) {
                    last.grow(amount, 20);
                } else {
                    held.extend(shares.take(Principal::Uid(who), amount, 20));
                }
                let taken = shares.0.lock();
                prop_assert_eq!(taken.all, held.iter().map(|s| s.amount).sum::<usize>());
                prop_assert!(taken.all <= 20 && taken.by.values().all(|own| *own <= 10));
            }
            held.clear();
            prop_assert!(shares.0.lock().all == 0 && shares.0.lock().by.is_empty());
        }
    }
}
