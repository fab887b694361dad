//! Cores: which there are, which are big, which may be used, and how fast they may go.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::number;
use crate::governor::Cores;
use crate::units::{CpuSet, Permille};

/// The cores that may be computed on now. Online ones change with hot-plugging, allowed
/// ones with the service's `AllowedCPUs=`.
pub(super) fn cores(root: &Path, cgroups: &[std::path::PathBuf]) -> Cores {
    let list = |path: &Path| {
        fs::read_to_string(path)
            .ok()
            .and_then(|t| CpuSet::parse(&t))
    };
    let cpus = root.join("sys/devices/system/cpu");
    let online = list(&cpus.join("online"));
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let status = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(CpuSet::parse);
    let own = cgroups.first();
    let cpuset = own.and_then(|own| list(&own.join("cpuset.cpus.effective")));
    let allowed = [online, status, cpuset]
        .into_iter()
        .flatten()
        .filter(|set| !set.is_empty())
        .reduce(CpuSet::and)
        .unwrap_or_default();
    Cores {
        big: big(&cpus, allowed),
        allowed,
        quota: cgroups.iter().filter_map(|group| quota(group)).min(),
    }
}

/// Of the cores allowed those of the highest capacity (kernel: cpu-capacity in
/// Documentation/devicetree/bindings/cpu), or, where the kernel does not say, of the
/// highest frequency; of hardware threads that share a core only the first.
fn big(cpus: &Path, allowed: CpuSet) -> CpuSet {
    let of = |cpu: u32, file: &str| cpus.join(format!("cpu{cpu}")).join(file);
    let is_first = |cpu: &u32| {
        let siblings = fs::read_to_string(of(*cpu, "topology/thread_siblings_list"));
        let siblings = siblings.ok().and_then(|text| CpuSet::parse(&text));
        let first = siblings.and_then(|set| set.and(allowed).iter().next());
        first.is_none_or(|first| first == *cpu)
    };
    let capacity = |cpu: u32| {
        number::<u32>(&of(cpu, "cpu_capacity"))
            .or_else(|| number(&of(cpu, "cpufreq/cpuinfo_max_freq")))
            .unwrap_or(0)
    };
    let mut by_capacity: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for cpu in allowed.iter().filter(is_first) {
        by_capacity.entry(capacity(cpu)).or_default().insert(cpu);
    }
    by_capacity
        .pop_last()
        .map(|(_, set)| set)
        .unwrap_or_default()
}

/// `cpu.max` (kernel: Documentation/admin-guide/cgroup-v2.rst): quota and period in µs.
fn quota(group: &Path) -> Option<u32> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let cores = quota.checked_div(period)?.max(1);
    u32::try_from(cores).ok()
}

/// How far the highest frequency allowed now lies below what the hardware can: the
/// kernel's thermal code and the firmware driver lower it. The lowest of the cores.
pub(super) fn frequency_cap(root: &Path, cores: CpuSet) -> Option<Permille> {
    let cap = |cpu: u32| {
        let folder = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"));
        let now: u64 = number(&folder.join("scaling_max_freq"))?;
        let most: u64 = number(&folder.join("cpuinfo_max_freq"))?;
        let share = now.saturating_mul(1000).checked_div(most)?.min(1000);
        u16::try_from(share).ok().map(Permille)
    };
    cores.iter().filter_map(cap).min()
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    const CPU: &str = "sys/devices/system/cpu";

    fn cpus(files: &[(&str, &str)], groups: &[&str]) -> (Cores, Option<Permille>) {
        let root = tree(files);
        let groups: Vec<_> = groups.iter().map(|g| root.path().join(g)).collect();
        let cores = cores(root.path(), &groups);
        (cores, frequency_cap(root.path(), cores.big))
    }

    #[test]
    fn big_cores_of_those_allowed() {
        let capacity = |n: u32| format!("{CPU}/cpu{n}/cpu_capacity");
        let names: Vec<String> = (0..8).map(capacity).collect();
        let online = format!("{CPU}/online");
        let mut files = vec![(online.as_str(), "0-7\n")];
        for (n, name) in names.iter().enumerate() {
            files.push((name, if n < 4 { "530\n" } else { "1024\n" }));
        }
        let big = |files: &[(&str, &str)], groups: &[&str]| {
            cpus(files, groups).0.big.iter().collect::<Vec<_>>()
        };
        assert_eq!(big(&files, &[]), [4, 5, 6, 7]);
        files.push(("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-5\n"));
        assert_eq!(big(&files, &[]), [4, 5]);
        files.push(("group/cpuset.cpus.effective", "0-3\n"));
        assert_eq!(big(&files, &["group"]), [0, 1, 2, 3]);
        assert_eq!(big(&[], &[]), [0; 0]);
        assert_eq!(big(&[(online.as_str(), "none\n")], &[]), [0; 0]);
    }

    #[test]
    fn hardware_threads_of_one_core_count_once() {
        let online = format!("{CPU}/online");
        let names: Vec<String> = (0..4)
            .map(|n| format!("{CPU}/cpu{n}/topology/thread_siblings_list"))
            .collect();
        let files = [
            (online.as_str(), "0-3"),
            (&names[0], "0,2"),
            (&names[1], "1,3"),
            (&names[2], "0,2"),
            (&names[3], "1,3"),
        ];
        let big: Vec<u32> = cpus(&files, &[]).0.big.iter().collect();
        assert_eq!(big, [0, 1]);
    }

    #[test]
    fn the_smallest_quota_counts() {
        for (own, above, quota) in [
            ("max 100000\n", "max 100000\n", None),
            ("250000 100000\n", "max 100000\n", Some(2)),
            ("max 100000\n", "50000 100000\n", Some(1)),
            ("400000 100000\n", "300000 100000\n", Some(3)),
            ("100000 0\n", "lots\n", None),
        ] {
            let files = [("a/b/cpu.max", own), ("a/cpu.max", above)];
            assert_eq!(cpus(&files, &["a/b", "a"]).0.quota, quota, "{own} {above}");
        }
    }

    #[test]
    fn a_cap_is_a_share_of_what_the_hardware_can() {
        let name = |file: &str| format!("{CPU}/cpu0/cpufreq/{file}");
        let (now, most, online) = (
            name("scaling_max_freq"),
            name("cpuinfo_max_freq"),
            format!("{CPU}/online"),
        );
        let cap = |a: &str, b: &str| cpus(&[(online.as_str(), "0"), (&now, a), (&most, b)], &[]).1;
        assert_eq!(cap("1200000\n", "1500000\n"), Some(Permille(800)));
        assert_eq!(cap("1500000\n", "1500000\n"), Some(Permille::FULL));
        assert_eq!(cap("1500000\n", "0\n"), None);
        assert_eq!(cap("x\n", "1500000\n"), None);
    }
}
