//! The caller of a request: its permissions, ownership, and identity in the journal.

use std::fmt;

use hearth_policy::holds::Keep;

/// The identity that the kernel or the bus vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A user, by the bus or by `SO_PEERCRED`.
    Uid(u32),
    /// A client over TCP, which identifies nobody.
    Anonymous,
}

impl Principal {
    /// The number that identifies it in tables by user. For anonymous clients that is
    /// 2³²-1, which is never a valid user id (setuid(2)).
    pub fn uid(self) -> u32 {
        match self {
            Self::Uid(uid) => uid,
            Self::Anonymous => u32::MAX,
        }
    }

    /// Whether it has all permissions: root, and the user that the daemon runs as.
    pub fn is_admin(self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        matches!(self, Self::Uid(uid) if uid == 0 || uid == own)
    }

    /// Whether it may use what belongs to `owner`: its own, or everything for root.
    pub fn may_use(self, owner: u32) -> bool {
        self == Self::Uid(0) || self.uid() == owner
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "{uid}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// The transport of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// D-Bus, with the caller's unique name.
    Bus(String),
    /// The Unix socket, with the peer's process id where it is known.
    Unix(Option<u32>),
    /// The TCP socket.
    Tcp,
    /// The daemon's own configuration.
    Config,
}

impl Origin {
    /// The value of the label `origin` in the metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bus(_) => "dbus",
            Self::Unix(_) => "unix",
            Self::Tcp => "tcp",
            Self::Config => "config",
        }
    }
}

/// The sender in the journal and in the list of jobs.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(name) => f.write_str(name),
            Self::Unix(Some(pid)) => write!(f, "http:{pid}"),
            Self::Unix(None) => f.write_str("http"),
            Self::Tcp => f.write_str("tcp"),
            Self::Config => f.write_str("config"),
        }
    }
}

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its identity.
    pub principal: Principal,
    /// Its transport.
    pub origin: Origin,
    /// The keep-alive of the model after this request; `None`: as configured.
    pub keep: Option<Keep>,
    /// The systemd unit that it runs in, where known; for the journal and the job list.
    pub unit: Option<String>,
}

impl Caller {
    /// A caller without a keep-alive and a known unit.
    pub fn new(principal: Principal, origin: Origin) -> Self {
        Self {
            principal,
            origin,
            keep: None,
            unit: None,
        }
    }
}

/// Whether a caller may manage models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// polkit has granted it.
    Granted,
    /// polkit was not consulted, or is not installed: `dbus.model_admins` applies.
    ByRule,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_client_has_no_permissions() {
        assert!(!Principal::Anonymous.is_admin());
        assert!(!Principal::Anonymous.may_use(1000));
        assert!(Principal::Uid(0).may_use(1000));
        assert!(Principal::Uid(1000).may_use(1000));
        assert!(!Principal::Uid(1001).may_use(1000));
        assert!(Principal::Uid(0).is_admin());
    }

    #[test]
    fn the_sender_names_the_peer() {
        for (origin, sender, label) in [
            (Origin::Bus(":1.7".into()), ":1.7", "dbus"),
            (Origin::Unix(Some(7)), "http:7", "unix"),
            (Origin::Tcp, "tcp", "tcp"),
            (Origin::Config, "config", "config"),
        ] {
            assert_eq!(
                (origin.to_string().as_str(), origin.as_str()),
                (sender, label)
            );
        }
    }
}
