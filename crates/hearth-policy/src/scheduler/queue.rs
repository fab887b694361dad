//! The queue in front of the engine: by class, fair between callers, with ageing.

use std::time::Duration;

use hearth_proto::Priority;

/// A request that has waited this long counts as one class higher, so that a steady
/// stream of interactive work cannot starve the rest.
pub const AGEING: Duration = Duration::from_mins(1);

/// Waiting items. There are few (tens), so linear scans are fast enough.
#[derive(Clone, Debug)]
pub struct Queue<K, T> {
    items: Vec<Waiting<K, T>>,
    /// Users and connections in the order they were last served, the most recent last.
    served_uids: Vec<u32>,
    served: Vec<Caller>,
}

/// The origin of a request: fairness is between users first, then between one user's
/// connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// Any number that identifies a connection.
    pub connection: u64,
}

#[derive(Clone, Debug)]
struct Waiting<K, T> {
    key: K,
    priority: Priority,
    caller: Caller,
    since: Duration,
    item: T,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            served_uids: Vec::new(),
            served: Vec::new(),
        }
    }
}

impl<K: Copy + PartialEq, T> Queue<K, T> {
    /// Number of waiting items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds an item at time `now`.
    pub fn push(&mut self, now: Duration, key: K, priority: Priority, caller: Caller, item: T) {
        self.items.push(Waiting {
            key,
            priority,
            caller,
            since: now,
            item,
        });
    }

    /// The next item, without removing it.
    pub fn peek(&self, now: Duration) -> Option<&T> {
        self.best(now).map(|n| &self.items[n].item)
    }

    /// Removes and returns the next item.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        let key = self.items[self.best(now)?].key;
        self.take(key)
    }

    /// Removes and returns an item that is served now, wherever it is in the queue.
    pub fn take(&mut self, key: K) -> Option<T> {
        let at = self.items.iter().position(|w| w.key == key)?;
        let waiting = self.items.remove(at);
        last(&mut self.served_uids, waiting.caller.uid);
        last(&mut self.served, waiting.caller);
        Some(waiting.item)
    }

    /// All items with their keys, the next one first.
    pub fn in_order(&self, now: Duration) -> impl Iterator<Item = (K, &T)> {
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        order.sort_by_key(|at| self.rank(now, *at));
        let items = order.into_iter().map(|at| &self.items[at]);
        items.map(|waiting| (waiting.key, &waiting.item))
    }

    /// A waiting item.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.items
            .iter_mut()
            .find(|w| w.key == key)
            .map(|w| &mut w.item)
    }

    /// Moves a waiting item to another class; its waiting time still counts.
    pub fn set_priority(&mut self, key: K, priority: Priority) {
        if let Some(waiting) = self.items.iter_mut().find(|w| w.key == key) {
            waiting.priority = priority;
        }
    }

    /// Removes an item, wherever it is in the queue.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let at = self.items.iter().position(|w| w.key == key)?;
        Some(self.items.remove(at).item)
    }

    /// How many items are currently ahead of this one.
    pub fn position(&self, now: Duration, key: K) -> Option<usize> {
        let at = self.items.iter().position(|w| w.key == key)?;
        let rank = self.rank(now, at);
        Some(
            (0..self.items.len())
                .filter(|n| self.rank(now, *n) < rank)
                .count(),
        )
    }

    /// Removes and returns all items for which `condition` returns true.
    pub fn drain_where(&mut self, mut condition: impl FnMut(&T) -> bool) -> Vec<T> {
        let (out, keep) = std::mem::take(&mut self.items)
            .into_iter()
            .partition(|w| condition(&w.item));
        self.items = keep;
        Vec::into_iter(out).map(|w| w.item).collect()
    }

    /// All items with their keys, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.items.iter().map(|w| (w.key, &w.item))
    }

    fn best(&self, now: Duration) -> Option<usize> {
        (0..self.items.len()).min_by_key(|n| self.rank(now, *n))
    }

    /// Class after ageing; then the user served longest ago (or never), then the connection
    /// served longest ago; then arrival.
    fn rank(&self, now: Duration, at: usize) -> (Priority, usize, usize, Duration, usize) {
        let waiting = &self.items[at];
        let class = waiting
            .priority
            .aged(now.saturating_sub(waiting.since), AGEING);
        let uid = place(&self.served_uids, &waiting.caller.uid);
        let connection = place(&self.served, &waiting.caller);
        (class, uid, connection, waiting.since, at)
    }
}

/// Most callers that are stored: each is a few bytes, but connections come and go.
const SERVED_MAX: usize = 64;

fn last<C: PartialEq>(served: &mut Vec<C>, caller: C) {
    served.retain(|other| *other != caller);
    if served.len() == SERVED_MAX {
        served.remove(0);
    }
    served.push(caller);
}

/// 0 for a caller that was never served; larger the more recently it was.
fn place<C: PartialEq>(served: &[C], caller: &C) -> usize {
    let at = served.iter().position(|other| other == caller);
    at.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn drain(queue: &mut Queue<u32, u32>, now: Duration) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(now)).collect()
    }

    #[test]
    fn requests_are_ordered_by_class_and_arrival() {
        let mut queue = Queue::default();
        queue.push(ZERO, 1, Priority::Background, of(0), 1);
        queue.push(ZERO, 2, Priority::Normal, of(0), 2);
        queue.push(ZERO, 3, Priority::Interactive, of(0), 3);
        queue.push(ZERO, 4, Priority::Normal, of(0), 4);
        assert_eq!(queue.position(ZERO, 4), Some(2));
        assert_eq!(drain(&mut queue, ZERO), [3, 2, 4, 1]);
    }

    fn of(uid: u32) -> Caller {
        Caller { uid, connection: 0 }
    }

    #[test]
    fn connections_of_one_user_take_turns() {
        let mut queue = Queue::default();
        let caller = |connection| Caller { uid: 1, connection };
        for n in 0..3 {
            queue.push(ZERO, n, Priority::Normal, caller(7), n);
        }
        queue.push(ZERO, 9, Priority::Normal, caller(8), 9);
        queue.push(ZERO, 10, Priority::Normal, of(2), 10);
        // Another user goes before one's second connection.
        assert_eq!(drain(&mut queue, ZERO), [0, 10, 9, 1, 2]);
    }

    #[test]
    fn callers_take_turns() {
        let mut queue = Queue::default();
        for n in 0..3 {
            queue.push(ZERO, n, Priority::Normal, of(1000), n);
        }
        queue.push(ZERO, 9, Priority::Normal, of(1001), 9);
        assert_eq!(drain(&mut queue, ZERO), [0, 9, 1, 2]);
    }

    #[test]
    fn a_request_served_out_of_order_counts_for_its_caller() {
        let mut queue = Queue::default();
        for n in 0..4 {
            queue.push(ZERO, n, Priority::Normal, of(n % 2), n);
        }
        let order = |queue: &Queue<u32, u32>| -> Vec<u32> {
            queue.in_order(ZERO).map(|(key, _)| key).collect()
        };
        assert_eq!(order(&queue), [0, 1, 2, 3]);
        assert_eq!(queue.take(2), Some(2));
        assert_eq!(order(&queue), [1, 3, 0]);
    }

    #[test]
    fn a_class_can_be_changed_while_waiting() {
        let mut queue = Queue::default();
        for n in 0..3 {
            queue.push(ZERO, n, Priority::Normal, of(0), n);
        }
        queue.set_priority(2, Priority::Interactive);
        queue.set_priority(0, Priority::Background);
        queue.set_priority(9, Priority::Interactive);
        assert_eq!(queue.position(ZERO, 2), Some(0));
        assert_eq!(drain(&mut queue, ZERO), [2, 1, 0]);
    }

    #[test]
    fn waiting_raises_the_class() {
        let mut queue = Queue::default();
        queue.push(ZERO, 1, Priority::Background, of(1), 1);
        let later = Duration::from_secs(121);
        queue.push(later, 2, Priority::Interactive, of(2), 2);
        assert_eq!(queue.pop(later), Some(1));
    }

    proptest! {
        /// Every pushed item is returned exactly once, whichever are removed.
        #[test]
        fn every_request_leaves_the_queue_exactly_once(items in prop::collection::vec((0u32..3, 0u32..4), 0..40), removed in prop::collection::vec(0u32..40, 0..10)) {
            let mut queue = Queue::default();
            for (n, (class, uid)) in (0u32..).zip(&items) {
                let priority = [Priority::Interactive, Priority::Normal, Priority::Background][*class as usize];
                queue.push(Duration::from_secs(u64::from(n)), n, priority, of(*uid), n);
            }
            let mut out: Vec<u32> = removed.iter().filter_map(|n| queue.remove(*n)).collect();
            out.extend(drain(&mut queue, Duration::from_secs(100)));
            out.sort_unstable();
            prop_assert_eq!(out, (0..u32::try_from(items.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
