//! The process's own control group, version 2 (kernel:
//! Documentation/admin-guide/cgroup-v2.rst).

use std::path::{Component, Path, PathBuf};

use hearth_proto::units::{Bytes, CpuSet};

use super::files::text;

/// Its folder and the parent folders; empty without version 2.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    /// The process's own group first, the root of the hierarchy last.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Finds the group of this process.
    pub(super) fn find(root: &Path) -> Self {
        let top = root.join("sys/fs/cgroup");
        let Some(own) = text(&root.join("proc/self/cgroup")).and_then(|text| {
            // Version 1 hierarchies have a number and names there.
            let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
            let path = Path::new(path);
            // A process outside its cgroup namespace's root sees `/../..`: its group is
            // not below `top`.
            path.components()
                .all(|part| matches!(part, Component::Normal(_)))
                .then(|| top.join(path))
        }) else {
            return Self::default();
        };
        let folders = own.ancestors().take_while(|path| path.starts_with(&top));
        Self {
            folders: folders.map(Path::to_owned).collect(),
        }
    }

    /// A file of the process's own group.
    pub(super) fn own(&self, name: &str) -> Option<PathBuf> {
        self.folders.first().map(|folder| folder.join(name))
    }

    /// CPU time per time that the group may use (`cpu.max`), in whole cores rounded
    /// down, at least 1: the smallest value of the group and its parents.
    pub(super) fn quota(&self) -> Option<u32> {
        let quotas = self.folders.iter().filter_map(|folder| {
            let text = text(&folder.join("cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            let quota: u64 = quota.parse().ok()?;
            let cores = quota.checked_div(period.trim().parse().ok()?)?;
            Some(u32::try_from(cores).unwrap_or(u32::MAX).max(1))
        });
        quotas.min()
    }

    /// The smallest of `memory.max` and `memory.high` of the group and its parents.
    pub(super) fn memory_max(&self) -> Option<Bytes> {
        let files = self
            .folders
            .iter()
            .flat_map(|folder| ["memory.max", "memory.high"].map(|name| folder.join(name)));
        files.filter_map(|file| bytes(&file)).min()
    }

    /// CPUs that the group may use; `None` without the controller.
    pub(super) fn cpus(&self) -> Option<CpuSet> {
        let list = text(&self.own("cpuset.cpus.effective")?)?;
        CpuSet::parse(&list).filter(|cpus| !cpus.is_empty())
    }
}

/// A number of bytes; `None` for `max`.
pub(super) fn bytes(file: &Path) -> Option<Bytes> {
    super::files::number(file).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::tree;
    use super::*;

    const OWN: &str = "sys/fs/cgroup/system.slice/hearthd.service";
    const PROC: (&str, &str) = ("proc/self/cgroup", "0::/system.slice/hearthd.service\n");

    #[test]
    fn the_own_cgroup_and_its_ancestors_are_listed() {
        for (text, depth) in [
            ("0::/system.slice/hearthd.service\n", 3),
            ("0::/\n", 1),
            ("1:memory:/a\n0::/b\n", 2),
            ("0::/../..\n", 0),
            ("0::/a/../../..\n", 0),
            ("12:memory:/a\n1:name=systemd:/a\n", 0),
            ("0::relative\n", 0),
            ("", 0),
        ] {
            let root = tree(&[("proc/self/cgroup", text)]);
            assert_eq!(Cgroup::find(root.path()).folders.len(), depth, "{text:?}");
        }
        assert!(Cgroup::find(Path::new("/nonexistent")).own("x").is_none());
    }

    #[test]
    fn cpu_quotas_are_parsed() {
        for (own, above, quota) in [
            ("max 100000\n", "max 100000\n", None),
            ("250000 100000\n", "max 100000\n", Some(2)),
            ("max 100000\n", "300000 100000\n", Some(3)),
            ("400000 100000\n", "300000 100000\n", Some(3)),
            ("50000 100000\n", "", Some(1)),
            ("200000\n", "", None),
            ("200000 0\n", "", None),
            ("-1 100000\n", "two cores\n", None),
            ("9223372036854775807 1\n", "", Some(u32::MAX)),
        ] {
            let root = tree(&[
                PROC,
                (&format!("{OWN}/cpu.max"), own),
                ("sys/fs/cgroup/system.slice/cpu.max", above),
            ]);
            assert_eq!(
                Cgroup::find(root.path()).quota(),
                quota,
                "{own:?} {above:?}"
            );
        }
    }

    #[test]
    fn the_smallest_memory_limit_applies() {
        for (own, high, above, limit) in [
            ("max\n", "max\n", "max\n", None),
            ("3000\n", "2000\n", "max\n", Some(2000)),
            ("max\n", "max\n", "1000\n", Some(1000)),
            ("max\n", "much\n", "-5\n", None),
        ] {
            let root = tree(&[
                PROC,
                (&format!("{OWN}/memory.max"), own),
                (&format!("{OWN}/memory.high"), high),
                ("sys/fs/cgroup/system.slice/memory.max", above),
            ]);
            let max = Cgroup::find(root.path()).memory_max();
            assert_eq!(max, limit.map(Bytes), "{own:?} {high:?} {above:?}");
        }
    }

    #[test]
    fn cpusets_are_parsed() {
        for (list, count) in [("0-1\n", Some(2)), ("\n", None), ("x\n", None)] {
            let root = tree(&[PROC, (&format!("{OWN}/cpuset.cpus.effective"), list)]);
            let cpus = Cgroup::find(root.path()).cpus();
            assert_eq!(cpus.map(CpuSet::len), count, "{list:?}");
        }
    }
}
