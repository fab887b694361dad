//! Inhibitors and keep-alives, which keep a model in memory. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_proto::KeepAlive;

/// The most inhibitors that one caller may have: each is released only by its owner.
const HOLDS_MAX: usize = 64;
/// The most keep-alives that are stored: over TCP one peer can appear as many clients.
const KEPT_MAX: usize = 64;

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

/// All inhibitors by cookie, and the keep-alives of clients. Each is for one model.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    inhibitors: BTreeMap<u32, Inhibitor>,
    last: u32,
    /// Until when; `None`: forever.
    kept: BTreeMap<(Client, String), Option<Duration>>,
}

#[derive(Clone, Debug)]
struct Inhibitor {
    owner: String,
    model: String,
    reason: String,
}

/// Why a model stays in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who keeps it: a connection of an inhibitor, or the `User-Agent` of a client.
    pub owner: String,
    /// The reason that an inhibitor gave; empty for a keep-alive.
    pub reason: String,
    /// Until when; `None`: until it is released.
    pub until: Option<Duration>,
}

impl Holds {
    /// Whether a model has an inhibitor.
    pub fn are_open(&self, model: &str) -> bool {
        self.inhibitors.values().any(|i| i.model == model)
    }

    /// The number of inhibitors and keep-alives of a model, expired ones included.
    pub fn count(&self, model: &str) -> usize {
        let inhibitors = self.inhibitors.values().filter(|i| i.model == model);
        let kept = self.kept.keys().filter(|(_, kept)| kept == model);
        inhibitors.count() + kept.count()
    }

    /// The inhibitors and the keep-alives of a model.
    pub fn of<'a>(&'a self, model: &'a str, now: Duration) -> impl Iterator<Item = Hold> + 'a {
        let inhibitors = self.inhibitors.values().filter(move |i| i.model == model);
        let inhibitors = inhibitors.map(|inhibitor| Hold {
            owner: inhibitor.owner.clone(),
            reason: inhibitor.reason.clone(),
            until: None,
        });
        let kept = self.kept.iter().filter(move |((_, kept), until)| {
            kept == model && until.is_none_or(|until| until > now)
        });
        inhibitors.chain(kept.map(|((client, _), until)| Hold {
            owner: client.agent.clone(),
            reason: String::new(),
            until: *until,
        }))
    }

    /// Sets a client's keep-alive of a model; it replaces the client's last one of it.
    pub fn keep(&mut self, keep: &Keep, model: &str, now: Duration, is_gone: impl Fn(i32) -> bool) {
        self.kept.retain(|(before, kept), until| {
            until.is_none_or(|until| until > now)
                && !(kept == model && keep.client.follows(before, &is_gone))
        });
        let until = match keep.time {
            KeepAlive::For(Duration::ZERO) => return,
            KeepAlive::For(time) => Some(now.saturating_add(time)),
            KeepAlive::Forever => None,
        };
        if self.kept.len() < KEPT_MAX {
            let key = (keep.client.clone(), model.to_owned());
            self.kept.insert(key, until);
        }
    }

    /// The end of the last keep-alive of this model; `None`: forever.
    pub fn until(&self, model: &str) -> Option<Duration> {
        let kept = self.kept.iter().filter(|((_, kept), _)| kept == model);
        kept.map(|(_, until)| *until)
            .try_fold(Duration::ZERO, |last, until| Some(last.max(until?)))
    }

    /// Removes all clients' keep-alives of a model: it was unloaded in spite of them.
    pub fn forget_wishes(&mut self, model: &str) {
        self.kept.retain(|(_, kept), _| kept != model);
    }

    /// Adds an inhibitor of `owner`; returns its cookie, or `None` if it has too many.
    pub fn add(&mut self, owner: &str, model: &str, reason: &str) -> Option<u32> {
        let owned = self.inhibitors.values().filter(|i| i.owner == owner);
        if owned.count() >= HOLDS_MAX {
            return None;
        }
        // Cookies wrap around after 2^32; those in use are skipped.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.inhibitors.contains_key(&self.last) {
                break;
            }
        }
        let inhibitor = Inhibitor {
            owner: owner.to_owned(),
            model: model.to_owned(),
            reason: reason.to_owned(),
        };
        self.inhibitors.insert(self.last, inhibitor);
        Some(self.last)
    }

    /// Releases all inhibitors of a model: it left the memory in spite of them. Returns their
    /// cookies.
    pub fn release_all(&mut self, model: &str) -> Vec<u32> {
        let released = self.inhibitors.extract_if(.., |_, i| i.model == model);
        released.map(|(cookie, _)| cookie).collect()
    }

    /// Releases an inhibitor; only its owner can. Returns whether there was one.
    pub fn release(&mut self, owner: &str, cookie: u32) -> bool {
        let inhibitor = self.inhibitors.get(&cookie);
        let owns = inhibitor.is_some_and(|i| i.owner == owner);
        if owns {
            self.inhibitors.remove(&cookie);
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
        let one = holds.add(":1.1", "m", "").unwrap();
        let two = holds.add(":1.2", "m", "").unwrap();
        assert_ne!(one, two);
        assert!(!holds.release(":1.2", one));
        assert!(holds.release(":1.1", one) && !holds.release(":1.1", one));
        assert!(holds.are_open("m") && holds.release(":1.2", two) && !holds.are_open("m"));
        let three = holds.add(":1.1", "n", "").unwrap();
        let four = holds.add(":1.2", "m", "").unwrap();
        assert_eq!(holds.release_all("m"), [four]);
        assert!(!holds.release(":1.2", four) && holds.release(":1.1", three));
        for _ in 0..HOLDS_MAX {
            holds.add(":1.3", "m", "").unwrap();
        }
        assert_eq!(holds.add(":1.3", "m", ""), None);
        assert!(holds.add(":1.4", "m", "").is_some());
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
    fn a_keep_alive_replaces_only_the_clients_own() {
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
            holds.forget_wishes("m");
            assert_eq!(holds.until("m"), at(0));
        }
    }

    #[test]
    fn a_hold_is_for_one_model() {
        let mut holds = Holds::default();
        let client = |agent: &str| Client {
            uid: 1,
            pid: 7,
            agent: agent.into(),
        };
        let keep = |agent, time| Keep {
            client: client(agent),
            time,
        };
        let now = Duration::from_secs(10);
        holds.add(":1.1", "m", "voice").unwrap();
        holds.keep(&keep("curl", FOREVER), "n", now, |_| false);
        holds.keep(&keep("curl", seconds(5)), "m", now, |_| false);
        assert!(holds.are_open("m") && !holds.are_open("n"));
        assert_eq!(
            holds.until("n"),
            None,
            "not replaced by that of another model"
        );
        let of_m: Vec<Hold> = holds.of("m", now).collect();
        let (voice, curl) = (&of_m[0], &of_m[1]);
        assert_eq!(
            (voice.owner.as_str(), voice.reason.as_str()),
            (":1.1", "voice")
        );
        assert_eq!(
            (curl.owner.as_str(), curl.until),
            ("curl", Some(Duration::from_secs(15)))
        );
        assert_eq!(holds.of("m", Duration::from_secs(15)).count(), 1);
        holds.forget_wishes("n");
        assert_eq!(holds.of("n", now).count(), 0);
    }

    #[test]
    fn the_number_of_keep_alives_is_bounded() {
        let mut holds = Holds::default();
        for uid in 0..1000 {
            wish(&mut holds, uid, 1, FOREVER);
        }
        assert_eq!(holds.kept.len(), KEPT_MAX);
        // A client that is among them can still remove its own.
        wish(&mut holds, 0, 1, seconds(0));
        assert_eq!(holds.kept.len(), KEPT_MAX - 1);
    }
}
