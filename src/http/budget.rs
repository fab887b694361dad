//! Budgets of connections and bytes that all callers share, with a limit for each caller.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::caller::Principal;

/// Counts the use of a limited resource. One caller gets at most half of it, so that it
/// cannot exhaust the resource for the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<Mutex<Used>>);

#[derive(Debug, Default)]
struct Used {
    all: usize,
    by_caller: HashMap<Principal, usize>,
}

/// An amount allocated to a caller; it is released on drop.
#[derive(Debug)]
pub(super) struct Allocation {
    budget: Budget,
    caller: Principal,
    amount: usize,
}

impl Budget {
    /// Allocates `amount` to a caller; `None` if the total would exceed `max`, or the
    /// caller's own total half of it.
    pub(super) fn allocate(
        &self,
        caller: Principal,
        amount: usize,
        max: usize,
    ) -> Option<Allocation> {
        let mut allocation = Allocation {
            budget: self.clone(),
            caller,
            amount: 0,
        };
        allocation.grow(amount, max).then_some(allocation)
    }
}

impl Allocation {
    /// Allocates more; if that exceeds a limit, returns false and changes nothing.
    pub(super) fn grow(&mut self, more: usize, max: usize) -> bool {
        let mut used = self.budget.0.lock();
        let own = used
            .by_caller
            .get(&self.caller)
            .copied()
            .unwrap_or_default();
        let (all, own) = (used.all.saturating_add(more), own.saturating_add(more));
        if all > max || own > max.div_ceil(2) {
            return false;
        }
        used.all = all;
        used.by_caller.insert(self.caller, own);
        self.amount += more;
        true
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut used = self.budget.0.lock();
        used.all = used.all.saturating_sub(self.amount);
        if let Some(own) = used.by_caller.get_mut(&self.caller) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                used.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_caller_gets_at_most_half() {
        let budget = Budget::default();
        let mut mine = budget.allocate(Principal::Uid(1), 4, 10).unwrap();
        assert!(!mine.grow(2, 10));
        assert!(mine.grow(1, 10));
        assert!(budget.allocate(Principal::Uid(1), 1, 10).is_none());
        // Clients over TCP count as one caller without a user.
        let other = budget.allocate(Principal::Anonymous, 5, 10).unwrap();
        assert!(budget.allocate(Principal::Uid(2), 1, 10).is_none());
        drop(mine);
        assert!(budget.allocate(Principal::Uid(2), 1, 10).is_some());
        drop(other);
        assert!(budget.0.lock().by_caller.is_empty());
        // If there is only one, one caller gets it.
        assert!(budget.allocate(Principal::Uid(1), 1, 1).is_some());
        assert!(budget.allocate(Principal::Uid(1), 1, 0).is_none());
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_the_allocations(steps in prop::collection::vec((0_u32..4, 0_usize..9, any::<bool>()), 1..60)) {
            let budget = Budget::default();
            let mut held: Vec<Allocation> = Vec::new();
            for (caller, amount, give) in steps {
                if give {
                    held.pop();
                } else if let Some(last) = held.last_mut().filter(|last| last.caller == Principal::Uid(caller)) {
                    last.grow(amount, 20);
                } else {
                    held.extend(budget.allocate(Principal::Uid(caller), amount, 20));
                }
                let used = budget.0.lock();
                prop_assert_eq!(used.all, held.iter().map(|s| s.amount).sum::<usize>());
                prop_assert!(used.all <= 20 && used.by_caller.values().all(|own| *own <= 10));
            }
            held.clear();
            prop_assert!(budget.0.lock().all == 0 && budget.0.lock().by_caller.is_empty());
        }
    }
}
