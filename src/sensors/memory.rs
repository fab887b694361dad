//! How full the memory is, of the board and of the service's own cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use super::number;
use crate::governor::{Memory, Psi};
use crate::units::{Bytes, Permille};

/// The service's own cgroup (version 2) and those above it, the own first; none where
/// there is no hierarchy of that version.
pub(super) fn cgroups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let top = root.join("sys/fs/cgroup");
    let own = top.join(own);
    let above = own.ancestors().take_while(|path| path.starts_with(&top));
    above.map(Path::to_owned).collect()
}

pub(super) fn memory(root: &Path, cgroups: &[PathBuf]) -> Memory {
    let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let own = cgroups.first();
    // "max" is no number, and no limit.
    let limits = cgroups
        .iter()
        .flat_map(|group| ["memory.max", "memory.high"].map(|file| group.join(file)));
    Memory {
        total: meminfo(&text, "MemTotal:"),
        available: meminfo(&text, "MemAvailable:"),
        swap_total: meminfo(&text, "SwapTotal:"),
        swap_free: meminfo(&text, "SwapFree:"),
        cgroup_current: own.and_then(|own| number(&own.join("memory.current")).map(Bytes)),
        cgroup_max: limits.filter_map(|path| number(&path)).min().map(Bytes),
        psi: own
            .and_then(|own| pressure(&own.join("memory.pressure")))
            .or_else(|| pressure(&root.join("proc/pressure/memory"))),
    }
}

/// A pressure file (kernel: Documentation/accounting/psi.rst).
pub(super) fn pressure(path: &Path) -> Option<Psi> {
    let text = fs::read_to_string(path).ok()?;
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let words = &mut line.split_whitespace();
        let percent: f32 = words.find_map(|w| w.strip_prefix("avg10="))?.parse().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let permille = (percent * 10.0).round().clamp(0.0, 1000.0) as u16;
        Some(Permille(permille))
    };
    Some(Psi {
        some_avg10: average("some ")?,
        // For the CPU older kernels have no such line.
        full_avg10: average("full ").unwrap_or_default(),
    })
}

fn meminfo(text: &str, key: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn a_board_with_everything() {
        let root = tree(&[
            (
                "proc/meminfo",
                "MemTotal: 4000 kB\nMemAvailable: 3000 kB\nSwapTotal: 200 kB\nSwapFree: 100 kB\n",
            ),
            ("proc/self/cgroup", "0::/system.slice/hearthd.service\n"),
            (
                "sys/fs/cgroup/system.slice/hearthd.service/memory.current",
                "123\n",
            ),
            (
                "sys/fs/cgroup/system.slice/hearthd.service/memory.max",
                "max\n",
            ),
            (
                "sys/fs/cgroup/system.slice/hearthd.service/memory.high",
                "900\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "800\n"),
            (
                "sys/fs/cgroup/system.slice/hearthd.service/memory.pressure",
                "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.50 avg60=0.00 avg300=0.00 total=1\n",
            ),
            (
                "proc/pressure/memory",
                "some avg10=99.00 avg60=0 avg300=0 total=1\n",
            ),
        ]);
        let groups = cgroups(root.path());
        assert_eq!(groups.len(), 3);
        let found = memory(root.path(), &groups);
        let kib = |n: u64| Some(Bytes(n * 1024));
        assert_eq!((found.total, found.available), (kib(4000), kib(3000)));
        assert_eq!((found.swap_total, found.swap_free), (kib(200), kib(100)));
        assert_eq!(found.cgroup_current, Some(Bytes(123)));
        assert_eq!(found.cgroup_max, Some(Bytes(800)));
        let psi = Psi {
            some_avg10: Permille(123),
            full_avg10: Permille(15),
        };
        assert_eq!(found.psi, Some(psi));
    }

    #[test]
    fn without_a_memory_controller_the_systems_stalls_count() {
        let root = tree(&[
            ("proc/self/cgroup", "1:name=systemd:/\n0::/\n"),
            (
                "proc/pressure/memory",
                "some avg10=250.00 avg60=0 avg300=0 total=1\n",
            ),
        ]);
        let found = memory(root.path(), &cgroups(root.path()));
        assert_eq!(found.cgroup_max, None);
        assert_eq!(found.psi.unwrap().some_avg10, Permille::FULL);
    }

    #[test]
    fn broken_files_are_none() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal: lots\nMemAvailable:\n"),
            ("proc/self/cgroup", "nonsense\n"),
            ("proc/pressure/memory", "some avg10=much\n"),
        ]);
        assert_eq!(cgroups(root.path()), Vec::<PathBuf>::new());
        assert_eq!(memory(root.path(), &[]), Memory::default());
        assert_eq!(memory(Path::new("/nonexistent"), &[]), Memory::default());
    }
}
