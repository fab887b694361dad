//! Memory usage: `/proc/meminfo`, the process's own control group, PSI.
//!
//! A Raspberry Pi's firmware turns the memory controller off by default
//! (`cgroup_disable=memory`), and kernels may lack PSI: a missing value is `None`.

use std::path::{Path, PathBuf};

use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;

use super::cgroup::{self, Cgroup};
use super::files::{noted, text};
use super::psi;

/// The files in use.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    pub(super) meminfo: PathBuf,
    /// `memory.current`, where there is a memory controller.
    pub(super) current: Option<PathBuf>,
    pub(super) psi: Option<PathBuf>,
    /// Seldom changed, by an administrator: read when the paths are looked up.
    max: Option<Bytes>,
}

impl MemoryFiles {
    pub(super) fn find(root: &Path, cgroup: &Cgroup) -> Self {
        let own = cgroup.own("memory.pressure");
        let system = root.join("proc/pressure/memory");
        Self {
            meminfo: root.join("proc/meminfo"),
            current: cgroup
                .own("memory.current")
                .filter(|file| cgroup::bytes(file).is_some()),
            psi: psi::find(own.into_iter().chain([system])),
            max: cgroup.memory_max(),
        }
    }

    pub(super) fn read(&self, complete: &mut bool) -> Memory {
        let meminfo = text(&self.meminfo).unwrap_or_default();
        let entry = |key| meminfo.lines().find_map(|line| kib(line, key));
        let current = self.current.as_deref().and_then(|file| {
            let all = noted(cgroup::bytes(file), complete)?;
            let cache = page_cache(&file.with_file_name("memory.stat"));
            Some(Bytes(all.0.saturating_sub(cache.0)))
        });
        let pressure = self.psi.as_deref();
        Memory {
            total: entry("MemTotal:"),
            available: entry("MemAvailable:"),
            swap_total: entry("SwapTotal:"),
            swap_free: entry("SwapFree:"),
            cgroup_current: current,
            cgroup_max: self.max,
            psi: pressure.and_then(|file| noted(psi::read(file), complete)),
        }
    }
}

/// Page cache that is charged to a group: mostly a mapped model file, which the kernel
/// drops if the group needs the memory. `file` also counts shared memory (Linux:
/// admin-guide/cgroup-v2, memory.stat), which it cannot drop.
fn page_cache(stat: &Path) -> Bytes {
    let text = text(stat).unwrap_or_default();
    let bytes = |key| {
        let mut lines = text.lines();
        let bytes = lines.find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        bytes.unwrap_or(0)
    };
    Bytes(bytes("file ").saturating_sub(bytes("shmem ")))
}

/// One line of `/proc/meminfo`; its "kB" are KiB.
fn kib(line: &str, key: &str) -> Option<Bytes> {
    let value = line.strip_prefix(key)?.trim().strip_suffix("kB")?;
    let kib: u64 = value.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use hearth_proto::reading::Psi;
    use hearth_proto::units::Permille;

    use super::super::files::tests::tree;
    use super::*;

    fn read(root: &Path) -> Memory {
        MemoryFiles::find(root, &Cgroup::find(root)).read(&mut true)
    }

    #[test]
    fn meminfo_is_parsed() {
        for (name, content, expected) in [
            (
                "good",
                "MemTotal:  4000 kB\nMemFree: 1 kB\nMemAvailable:  3000 kB\nSwapTotal: 100 kB\nSwapFree:  50 kB\n",
                [Some(4000), Some(3000), Some(100), Some(50)],
            ),
            (
                "no swap",
                "MemTotal: 4000 kB\nMemAvailable: 3000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
                [Some(4000), Some(3000), Some(0), Some(0)],
            ),
            (
                "bad lines",
                "MemTotal: lots\nMemAvailable: -3 kB\nSwapTotal: 18446744073709551615 kB\nSwapFree: 5\n",
                [None; 4],
            ),
            ("empty", "", [None; 4]),
        ] {
            let root = tree(&[("proc/meminfo", content)]);
            let memory = read(root.path());
            assert_eq!(
                [
                    memory.total,
                    memory.available,
                    memory.swap_total,
                    memory.swap_free
                ],
                expected.map(|kib| kib.map(|kib| Bytes(kib * 1024))),
                "{name}"
            );
        }
    }

    #[test]
    fn the_own_cgroup_takes_precedence_over_the_system() {
        let own = "sys/fs/cgroup/a/memory";
        let root = tree(&[
            ("proc/self/cgroup", "0::/a\n"),
            (&format!("{own}.current"), "4096\n"),
            (
                &format!("{own}.stat"),
                "anon 1000\nfile 1196\nfile_dirty 7\nshmem 100\n",
            ),
            (&format!("{own}.max"), "8192\n"),
            (
                &format!("{own}.pressure"),
                "some avg10=2.00\nfull avg10=1.00\n",
            ),
            ("proc/pressure/memory", "some avg10=9.00\nfull avg10=9.00\n"),
        ]);
        let expected = Memory {
            cgroup_current: Some(Bytes(3000)),
            cgroup_max: Some(Bytes(8192)),
            psi: Some(Psi {
                some_avg10: Permille(20),
                full_avg10: Permille(10),
            }),
            ..Memory::default()
        };
        assert_eq!(read(root.path()), expected);
    }

    #[test]
    fn without_a_controller_the_systems_memory_is_read() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.pressure", ""),
            ("proc/pressure/memory", "some avg10=9.00\n"),
        ]);
        let psi = read(root.path()).psi.unwrap();
        assert_eq!(psi.some_avg10, Permille(90));
        assert_eq!(read(Path::new("/nonexistent")), Memory::default());
    }
}
