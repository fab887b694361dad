//! Finds the process of a server and measures what its process tree uses: `/proc`
//! (proc(5)) under an injected root.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_proto::units::Bytes;
use serde::Serialize;

/// State of a listening socket in `/proc/net/tcp` (Linux: `include/net/tcp_states.h`).
const TCP_LISTEN: &str = "0A";
/// Flag of a listening socket in `/proc/net/unix` (`__SO_ACCEPTCON`, Linux:
/// include/uapi/linux/net.h).
const UNIX_LISTEN: &str = "00010000";

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub enum Listening<'a> {
    /// A TCP port of this computer.
    Port(u16),
    /// A Unix socket.
    Socket(&'a Path),
}

/// How memory was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Proportional set size: pages shared by several processes are counted once in
    /// total.
    Pss,
    /// Resident set size: shared pages are counted for each process. The only figure that
    /// is readable of other users' processes.
    Rss,
}

/// The processes of this computer.
#[derive(Clone, Debug)]
pub struct Proc {
    root: PathBuf,
    ticks_per_second: f64,
}

/// The fields read from `/proc/PID/stat`.
struct Stat {
    parent: u32,
    /// User and system time of the process and of the children it has waited for.
    ticks: u64,
}

impl Proc {
    /// The processes in `root` (`/proc`); their times are in ticks of this length.
    pub fn new(root: impl Into<PathBuf>, ticks_per_second: f64) -> Self {
        Self {
            root: root.into(),
            ticks_per_second,
        }
    }

    /// The processes of this computer.
    pub fn here() -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let ticks = ticks
            .ok()
            .flatten()
            .and_then(|ticks| i32::try_from(ticks).ok());
        // USER_HZ: 100 on every Linux architecture that is supported.
        Self::new("/proc", ticks.map_or(100.0, f64::from))
    }

    /// The process that listens there; the topmost if several share the socket.
    ///
    /// # Errors
    /// Why it cannot be determined, and what to do.
    pub fn listener(&self, at: Listening<'_>) -> Result<u32, String> {
        let wanted = self.sockets(at);
        if wanted.is_empty() {
            return Err(
                "no process on this computer listens there; if the server runs in a \
                 container, give --pid"
                    .to_owned(),
            );
        }
        let mut denied = false;
        let mut holders = Vec::new();
        // Process 1 is systemd, which only holds sockets for other processes.
        for pid in self.pids().into_iter().filter(|pid| *pid != 1) {
            match self.has_open(pid, &wanted) {
                Some(true) => holders.push(pid),
                Some(false) => {}
                None => denied = true,
            }
        }
        let parent = |pid: u32| self.stat(pid).map(|stat| stat.parent);
        let top = holders
            .iter()
            .find(|pid| parent(**pid).is_none_or(|parent| !holders.contains(&parent)));
        match top {
            Some(pid) => Ok(*pid),
            None if denied => {
                Err("the process belongs to another user: run as root, or give --pid".to_owned())
            }
            None => Err("no process has the socket open: give --pid".to_owned()),
        }
    }

    /// The parent of a process.
    pub fn parent(&self, pid: u32) -> Option<u32> {
        Some(self.stat(pid)?.parent)
    }

    /// Whether there is such a process.
    pub fn exists(&self, pid: u32) -> bool {
        self.stat(pid).is_some()
    }

    /// A process and all its descendants.
    pub fn tree(&self, top: u32) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = self
            .pids()
            .into_iter()
            .filter_map(|pid| Some((pid, self.stat(pid)?.parent)))
            .collect();
        let mut tree = vec![top];
        let mut next = 0;
        while let Some(&pid) = tree.get(next) {
            next += 1;
            let children = parents.iter().filter(|(_, parent)| *parent == pid);
            tree.extend(
                children
                    .map(|(child, _)| *child)
                    .filter(|child| *child != top),
            );
        }
        tree
    }

    /// CPU time that the tree has used, including children that have ended and were
    /// waited for; exact to one tick per process.
    pub fn cpu(&self, tree: &[u32]) -> Duration {
        let ticks = tree.iter().filter_map(|pid| Some(self.stat(*pid)?.ticks));
        let ticks = u32::try_from(ticks.sum::<u64>()).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(ticks) / self.ticks_per_second)
    }

    /// Memory of the tree: `Pss` if all of it is readable, otherwise `Rss`; `None` if the
    /// tree has ended.
    pub fn memory(&self, tree: &[u32]) -> Option<(Bytes, Kind)> {
        // A process that ends in the meantime does not count.
        let alive = || tree.iter().filter(|pid| self.exists(**pid));
        let file = |pid: &u32, name: &str| fs::read_to_string(self.of(*pid).join(name));
        let pss: Option<u64> = alive()
            .map(|pid| kib(&file(pid, "smaps_rollup").ok()?, "Pss:"))
            .sum();
        if let Some(kib) = pss.filter(|kib| *kib > 0) {
            return Some((Bytes(kib * 1024), Kind::Pss));
        }
        let rss = alive().filter_map(|pid| kib(&file(pid, "status").ok()?, "VmRSS:"));
        let rss = rss.sum::<u64>();
        (rss > 0).then_some((Bytes(rss * 1024), Kind::Rss))
    }

    fn of(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    fn pids(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut pids: Vec<u32> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        let bytes = fs::read(self.of(pid).join("stat")).ok()?;
        let line = String::from_utf8_lossy(&bytes);
        // The name, which precedes, may contain blanks and parentheses.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?;
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks.iter().filter_map(|n| n.parse::<u64>().ok()).sum(),
        })
    }

    /// Inodes of the sockets that listen there, in the form of the links in `fd/`.
    fn sockets(&self, at: Listening<'_>) -> HashSet<String> {
        let table = |name| fs::read_to_string(self.root.join("net").join(name)).unwrap_or_default();
        let lines = match at {
            Listening::Port(_) => table("tcp") + &table("tcp6"),
            Listening::Socket(_) => table("unix"),
        };
        let inode = |line: &str| {
            match at {
                Listening::Port(port) => {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    let local = fields.get(1)?.rsplit_once(':')?.1;
                    let is_it = u16::from_str_radix(local, 16) == Ok(port);
                    (is_it && fields.get(3) == Some(&TCP_LISTEN)).then(|| fields.get(9).copied())?
                }
                Listening::Socket(path) => {
                    let (fields, path_of_it) = line.split_once(" /")?;
                    let fields: Vec<&str> = fields.split_whitespace().collect();
                    let is_it = Path::new("/").join(path_of_it) == path;
                    (is_it && fields.get(3) == Some(&UNIX_LISTEN))
                        .then(|| fields.get(6).copied())?
                }
            }
            .map(|inode| format!("socket:[{inode}]"))
        };
        lines.lines().filter_map(inode).collect()
    }

    /// Whether a process has one of these sockets open; `None` if that is not readable.
    fn has_open(&self, pid: u32, wanted: &HashSet<String>) -> Option<bool> {
        let files = fs::read_dir(self.of(pid).join("fd")).ok()?;
        let mut links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        Some(links.any(|link| link.to_str().is_some_and(|link| wanted.contains(link))))
    }
}

/// One line of a file whose sizes are in KiB.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   1: 0100007F:9000 0100007F:2CAA 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 815 /run/a b/h.sock\n0000: 00000003 00000000 00000000 0001 03 816 /run/a b/h.sock\n0000: 00000002 00000000 00010000 0001 01 817 @abstract\n";

    /// A daemon (10) with an engine (11) that has a helper (12); systemd holds the
    /// sockets, too.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("net/tcp", TCP);
        put("net/unix", UNIX);
        for (pid, parent, name, times) in [
            (1, 0, "systemd", "1 1 1 1"),
            (10, 1, "hearthd", "10 5 200 100"),
            (11, 10, "hearth (eng) ine", "30 20 0 0"),
            (12, 11, "helper", "1 0 0 0"),
            (13, 1, "other", "9 9 9 9"),
        ] {
            let stat = format!("{pid} ({name}) S {parent} 1 1 0 -1 4194304 1 2 3 4 {times} 20 0 1");
            put(&format!("{pid}/stat"), &stat);
            put(&format!("{pid}/status"), "Name: x\nVmRSS:\t    1000 kB\n");
            put(
                &format!("{pid}/smaps_rollup"),
                "0-1 ---p [rollup]\nRss: 900 kB\nPss:   700 kB\n",
            );
            fs::create_dir(root.path().join(format!("{pid}/fd"))).unwrap();
        }
        for (fd, inode) in [
            ("1/fd/3", 815),
            ("10/fd/3", 815),
            ("11/fd/9", 4711),
            ("10/fd/4", 4711),
        ] {
            symlink(format!("socket:[{inode}]"), root.path().join(fd)).unwrap();
        }
        root
    }

    #[test]
    fn who_listens() {
        let root = tree();
        let proc = Proc::new(root.path(), 100.0);
        assert_eq!(
            proc.listener(Listening::Port(0x2CAA)),
            Ok(10),
            "the topmost"
        );
        assert_eq!(
            proc.listener(Listening::Socket(Path::new("/run/a b/h.sock"))),
            Ok(10)
        );
        // An established connection is not a listener.
        assert!(
            proc.listener(Listening::Port(0x9000))
                .unwrap_err()
                .contains("--pid")
        );
        fs::remove_file(root.path().join("10/fd/3")).unwrap();
        let socket = Listening::Socket(Path::new("/run/a b/h.sock"));
        assert!(proc.listener(socket).unwrap_err().contains("no process"));
        fs::remove_dir_all(root.path().join("13/fd")).unwrap();
        assert!(proc.listener(socket).unwrap_err().contains("as root"));
    }

    #[test]
    fn the_whole_tree_counts() {
        let root = tree();
        let proc = Proc::new(root.path(), 100.0);
        let all = proc.tree(10);
        assert_eq!(all, [10, 11, 12]);
        assert_eq!(proc.cpu(&all), Duration::from_millis(3660));
        assert_eq!(proc.memory(&all), Some((Bytes(3 * 700 * 1024), Kind::Pss)));
        // The time of an engine that has ended is added to the daemon that waited for it.
        fs::remove_dir_all(root.path().join("11")).unwrap();
        assert_eq!(proc.tree(10), [10]);
        assert_eq!(proc.memory(&all), Some((Bytes(2 * 700 * 1024), Kind::Pss)));
    }

    #[test]
    fn memory_of_others_is_resident_memory() {
        let root = tree();
        let proc = Proc::new(root.path(), 100.0);
        fs::remove_file(root.path().join("11/smaps_rollup")).unwrap();
        let rss = Some((Bytes(3 * 1000 * 1024), Kind::Rss));
        assert_eq!(proc.memory(&proc.tree(10)), rss);
        assert_eq!(proc.memory(&[99]), None);
        assert_eq!(Proc::new("/nonexistent", 100.0).tree(7), [7]);
    }

    #[test]
    fn this_process_is_found() {
        let proc = Proc::here();
        let own = std::process::id();
        assert!(proc.tree(own).contains(&own));
        assert!(proc.memory(&[own]).is_some_and(|(bytes, _)| bytes.0 > 0));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(proc.listener(Listening::Port(port)), Ok(own));
    }
}
