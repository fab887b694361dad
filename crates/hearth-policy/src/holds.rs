//! Inhibitors and keep-alives, which keep a model in memory. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_proto::KeepAlive;

/// The most inhibitors that one caller may have: each is released only by its owner.
const HOLDS_MAX: usize = 64;
/// The most clients whose keep-alives are stored: over TCP one peer can appear as many.
const CLIENTS_MAX: usize = 64;

/// The client that sets a keep-alive. A later keep-alive of the same client replaces its
/// earlier one; it never shortens another client's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The user; 2^32 - 1 over TCP, which identifies none.
    pub uid: u32,
    /// The process; 0 if it is unknown, as over TCP.
    pub pid: i32,
    /// Its `User-Agent`.
    pub agent: String,
}

impl Client {
    /// Whether this is the same client as `before`. Some are a new process each time, such as
    /// `curl`.
    pub fn follows(&self, before: &Self, is_gone: impl Fn(i32) -> bool) -> bool {
        let is_alike = self.uid == before.uid && self.agent == before.agent;
        self == before || is_alike && before.pid > 0 && is_gone(before.pid)
    }
}

/// A client's keep-alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Who set it.
    pub client: Client,
    /// How long.
    pub time: KeepAlive,
}

impl Keep {
    /// Whether this client no longer needs the model.
    pub fn is_over(&self) -> bool {
        self.time == KeepAlive::For(Duration::ZERO)
    }
}

/// All inhibitors by cookie, and the keep-alives of clients.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    owners: BTreeMap<u32, String>,
    last: u32,
    kept: BTreeMap<Client, Kept>,
}

/// A client's keep-alive of a model.
#[derive(Clone, Debug)]
struct Kept {
    model: String,
    /// `None`: forever.
    until: Option<Duration>,
}

impl Holds {
    /// Whether there is an inhibitor.
    pub fn are_open(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Sets a client's keep-alive; it replaces the client's last one.
    pub fn keep(&mut self, keep: &Keep, model: &str, now: Duration, is_gone: impl Fn(i32) -> bool) {
        self.kept.retain(|before, kept| {
            kept.until.is_none_or(|until| until > now) && !keep.client.follows(before, &is_gone)
        });
        let until = match keep.time {
            KeepAlive::For(Duration::ZERO) => return,
            KeepAlive::For(time) => Some(now.saturating_add(time)),
            KeepAlive::Forever => None,
        };
        if self.kept.len() < CLIENTS_MAX {
            let model = model.to_owned();
            self.kept.insert(keep.client.clone(), Kept { model, until });
        }
    }

    /// The end of the last keep-alive of this model; `None`: forever.
    pub fn until(&self, model: &str) -> Option<Duration> {
        let kept = self.kept.values().filter(|kept| kept.model == model);
        kept.map(|kept| kept.until)
            .try_fold(Duration::ZERO, |last, until| Some(last.max(until?)))
    }

    /// Removes all clients' keep-alives: the model was unloaded in spite of them.
    pub fn forget_wishes(&mut self) {
        self.kept.clear();
    }

    /// Adds an inhibitor of `owner`; returns its cookie, or `None` if it has too many.
    pub fn add(&mut self, owner: &str) -> Option<u32> {
        let owned = self.owners.values().filter(|other| *other == owner);
        if owned.count() >= HOLDS_MAX {
            return None;
        }
        // Cookies wrap around after 2^32; those in use are skipped.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.owners.contains_key(&self.last) {
                break;
            }
        }
        self.owners.insert(self.last, owner.to_owned());
        Some(self.last)
    }

    /// Releases an inhibitor; only its owner can. Returns whether there was one.
    pub fn release(&mut self, owner: &str, cookie: u32) -> bool {
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
        assert!(holds.are_open() && holds.release(":1.2", two) && !holds.are_open());
        for _ in 0..HOLDS_MAX {
            holds.add(":1.3").unwrap();
        }
        assert_eq!(holds.add(":1.3"), None);
        assert!(holds.add(":1.4").is_some());
    }

    const FOREVER: KeepAlive = KeepAlive::Forever;

    fn seconds(n: u64) -> KeepAlive {
        KeepAlive::For(Duration::from_secs(n))
    }

    /// A keep-alive set by a user's process at 10 s; processes above 100 have exited by then.
    fn wish(holds: &mut Holds, uid: u32, pid: i32, time: KeepAlive) {
        let agent = if pid % 2 == 0 { "curl" } else { "python" }.into();
        let client = Client { uid, pid, agent };
        let now = Duration::from_secs(10);
        holds.keep(&Keep { client, time }, "m", now, |pid| pid > 100);
    }

    #[test]
    fn a_client_replaces_its_own_wish_only() {
        let at = |n| Some(Duration::from_secs(n));
        for (wishes, until) in [
            (&[][..], at(0)),
            (&[(1, 7, seconds(5))], at(15)),
            (&[(1, 7, seconds(5)), (1, 7, seconds(3))], at(13)),
            (&[(1, 7, FOREVER)], None),
            (&[(1, 7, FOREVER), (1, 7, seconds(0))], at(0)),
            (&[(1, 7, FOREVER), (1, 8, seconds(0))], None),
            (&[(1, 7, FOREVER), (2, 7, seconds(5))], None),
            (&[(1, 7, seconds(9)), (1, 8, seconds(5))], at(19)),
            // The process has exited: the same program of the same user replaces its keep-alive.
            (&[(1, 107, FOREVER), (1, 9, seconds(5))], at(15)),
            (&[(1, 107, FOREVER), (1, 8, seconds(5))], None),
            (&[(1, 107, FOREVER), (2, 9, seconds(5))], None),
            // Over TCP it is unknown whether a client has exited.
            (&[(9, 0, FOREVER), (9, 0, seconds(5))], at(15)),
        ] {
            let mut holds = Holds::default();
            for (uid, pid, time) in wishes {
                wish(&mut holds, *uid, *pid, *time);
            }
            assert_eq!(holds.until("m"), until, "{wishes:?}");
            assert_eq!(holds.until("another"), at(0));
            holds.forget_wishes();
            assert_eq!(holds.until("m"), at(0));
        }
    }

    #[test]
    fn wishes_are_bounded() {
        let mut holds = Holds::default();
        for uid in 0..1000 {
            wish(&mut holds, uid, 1, FOREVER);
        }
        assert_eq!(holds.kept.len(), CLIENTS_MAX);
        // A client that is among them can still remove its own.
        wish(&mut holds, 0, 1, seconds(0));
        assert_eq!(holds.kept.len(), CLIENTS_MAX - 1);
    }
}
