//! Cores and their frequencies (kernel: Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::path::{Path, PathBuf};

use hearth_proto::reading::Cores;
use hearth_proto::units::{CpuSet, Permille};

use super::cgroup::Cgroup;
use super::files::{noted, number, text};

/// A core counts as big above this share of the biggest one's capacity or frequency. The
/// little cores of all known boards are below it (RK3399: 0.79 by frequency, RK3588: 0.75,
/// by capacity far less); big cores that differ only by their bin are above it.
const BIG: Permille = Permille(800);

/// The cores to compute on, and the files with their frequency limits.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) cores: Cores,
    online: PathBuf,
    /// The last content of `online`.
    was_online: Option<CpuSet>,
    policies: Vec<Policy>,
}

/// Cores that share a clock.
#[derive(Debug)]
struct Policy {
    /// `scaling_max_freq`: the highest frequency allowed now.
    cap: PathBuf,
    /// `cpuinfo_max_freq`: the highest supported frequency, in kHz.
    full: u64,
}

impl Cpu {
    pub(super) fn find(root: &Path, cgroup: &Cgroup) -> Self {
        let folder = root.join("sys/devices/system/cpu");
        let online = folder.join("online");
        let was_online = cpus(&online);
        let sets = [was_online, affinity(root), cgroup.cpus()];
        let allowed = sets.into_iter().flatten().reduce(CpuSet::and);
        let allowed = allowed.unwrap_or_default();
        let big = big(&folder, allowed);
        Self {
            cores: Cores {
                big,
                allowed,
                quota: cgroup.quota(),
            },
            online,
            was_online,
            policies: policies(&folder, big),
        }
    }

    /// The lowest frequency cap of the big cores. Clears `complete` if the set of online cores
    /// has changed: then everything has to be looked up again.
    pub(super) fn read(&self, complete: &mut bool) -> Option<Permille> {
        *complete &= cpus(&self.online) == self.was_online;
        let caps = self.policies.iter().filter_map(|policy| {
            let cap: u64 = noted(number(&policy.cap), complete)?;
            let share = cap.saturating_mul(1000).checked_div(policy.full)?;
            Some(Permille(u16::try_from(share).unwrap_or(u16::MAX)).min(Permille::FULL))
        });
        caps.min()
    }

    /// The files read for the frequency.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        self.policies.iter().map(|p| p.cap.clone()).collect()
    }
}

/// A list of CPUs; `None` if it is empty.
fn cpus(file: &Path) -> Option<CpuSet> {
    CpuSet::parse(&text(file)?).filter(|cpus| !cpus.is_empty())
}

/// CPUs that the process may be scheduled on.
fn affinity(root: &Path) -> Option<CpuSet> {
    let status = text(&root.join("proc/self/status"))?;
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    CpuSet::parse(list).filter(|cpus| !cpus.is_empty())
}

fn file(folder: &Path, cpu: u32, name: &str) -> PathBuf {
    folder.join(format!("cpu{cpu}/{name}"))
}

/// The biggest of these CPUs, one for each core: threads of one core (SMT) share the
/// units that compute.
fn big(folder: &Path, allowed: CpuSet) -> CpuSet {
    let sizes = ["cpu_capacity", "cpufreq/cpuinfo_max_freq"]
        .into_iter()
        .find_map(|name| {
            let size = |cpu| Some((cpu, number::<u64>(&file(folder, cpu, name))?));
            allowed.iter().map(size).collect::<Option<Vec<_>>>()
        })
        .unwrap_or_else(|| allowed.iter().map(|cpu| (cpu, 1)).collect());
    let biggest = sizes.iter().map(|(_, size)| *size).max().unwrap_or(0);
    let floor = biggest / 1000 * u64::from(BIG.0) + biggest % 1000 * u64::from(BIG.0) / 1000;
    sizes
        .into_iter()
        .filter(|(_, size)| *size == biggest || *size > floor)
        .map(|(cpu, _)| cpu)
        .filter(|cpu| {
            let siblings = cpus(&file(folder, *cpu, "topology/thread_siblings_list"));
            siblings.is_none_or(|set| set.and(allowed).iter().all(|other| other >= *cpu))
        })
        .collect()
}

fn policies(folder: &Path, big: CpuSet) -> Vec<Policy> {
    let mut seen = CpuSet::default();
    let mut policies = Vec::new();
    for cpu in big.iter() {
        if seen.contains(cpu) {
            continue;
        }
        let Some(full) = number(&file(folder, cpu, "cpufreq/cpuinfo_max_freq")) else {
            continue;
        };
        // The only list of CPUs that is separated by blanks.
        let related = text(&file(folder, cpu, "cpufreq/related_cpus")).unwrap_or_default();
        let related = related.split_whitespace().filter_map(|n| n.parse().ok());
        related.chain([cpu]).for_each(|cpu| seen.insert(cpu));
        policies.push(Policy {
            cap: file(folder, cpu, "cpufreq/scaling_max_freq"),
            full,
        });
    }
    policies
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{put, tree};
    use super::*;

    const CPU: &str = "sys/devices/system/cpu";

    fn find(root: &Path) -> Cpu {
        Cpu::find(root, &Cgroup::find(root))
    }

    fn set(list: &str) -> CpuSet {
        CpuSet::parse(list).unwrap()
    }

    #[test]
    fn allowed_cpus_are_the_intersection_of_all_masks() {
        for (online, affinity, cgroup, allowed) in [
            ("0-3\n", "0-7", "0-3\n", "0-3"),
            ("0-3\n", "1-2", "0-3\n", "1-2"),
            ("0-3\n", "0-3", "2\n", "2"),
            ("0-3\n", "0-3", "", "0-3"),
            ("", "0-1", "", "0-1"),
            ("x\n", "y", "3-1\n", ""),
        ] {
            let root = tree(&[
                (&format!("{CPU}/online"), online),
                (
                    "proc/self/status",
                    &format!(
                        "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t{affinity}\nMems_allowed:\t1\n"
                    ),
                ),
                ("proc/self/cgroup", "0::/a\n"),
                ("sys/fs/cgroup/a/cpuset.cpus.effective", cgroup),
            ]);
            let cores = find(root.path()).cores;
            assert_eq!(
                cores.allowed,
                set(allowed),
                "{online:?} {affinity:?} {cgroup:?}"
            );
        }
        assert_eq!(find(Path::new("/nonexistent")).cores, Cores::default());
    }

    #[test]
    fn big_cores_are_found_by_capacity_or_frequency() {
        // Capacity, highest frequency and siblings of each CPU; "" means no file.
        for (name, cpus, expected) in [
            (
                "by capacity",
                &[("414", "1", ""), ("414", "1", ""), ("1024", "1", "")][..],
                "2",
            ),
            (
                "bins of one kind",
                &[("530", "", ""), ("1024", "", ""), ("1003", "", "")],
                "1-2",
            ),
            (
                "a capacity missing: by frequency",
                &[("1024", "1416000", ""), ("", "1800000", "")],
                "1",
            ),
            (
                "garbage: by frequency",
                &[("1024", "1800000", ""), ("big", "2400000", "")],
                "1",
            ),
            ("nothing known: all", &[("", "", ""), ("", "", "")], "0-1"),
            ("all zero: all", &[("0", "", ""), ("0", "", "")], "0-1"),
            (
                "one thread of each core",
                &[
                    ("", "", "0,2"),
                    ("", "", "1,3"),
                    ("", "", "0,2"),
                    ("", "", "1,3"),
                ],
                "0-1",
            ),
            ("bad siblings", &[("", "", "?"), ("", "", "9-8")], "0-1"),
            (
                "little cores' siblings do not matter",
                &[("1024", "", "0-1"), ("1024", "", "0-1"), ("400", "", "2")],
                "0",
            ),
        ] {
            let root = tree(&[(&format!("{CPU}/online"), &format!("0-{}", cpus.len() - 1))]);
            for (n, (capacity, frequency, siblings)) in cpus.iter().enumerate() {
                for (file, content) in [
                    ("cpu_capacity", capacity),
                    ("cpufreq/cpuinfo_max_freq", frequency),
                    ("topology/thread_siblings_list", siblings),
                ] {
                    if !content.is_empty() {
                        put(root.path(), &[(&format!("{CPU}/cpu{n}/{file}"), content)]);
                    }
                }
            }
            assert_eq!(find(root.path()).cores.big, set(expected), "{name}");
        }
    }

    #[test]
    fn a_sibling_that_is_not_allowed_does_not_count() {
        let siblings = format!("{CPU}/cpu1/topology/thread_siblings_list");
        let root = tree(&[(&format!("{CPU}/online"), "1"), (&siblings, "0-1")]);
        assert_eq!(find(root.path()).cores.big, set("1"));
    }

    #[test]
    fn the_frequency_cap_is_the_lowest_of_the_big_cores() {
        // Highest and allowed frequency of two big cores and a little one.
        for (name, files, cap) in [
            (
                "free",
                [("2400", "2400"), ("2400", "2400"), ("9", "1")],
                Some(1000),
            ),
            (
                "one capped",
                [("2400", "2400"), ("2400", "1200"), ("9", "9")],
                Some(500),
            ),
            (
                "above full",
                [("2400", "9999"), ("2400", "2400"), ("9", "9")],
                Some(1000),
            ),
            (
                "absurd",
                [("2400", "18446744073709551615"), ("", ""), ("", "")],
                Some(1000),
            ),
            (
                "one bad",
                [("2400", "1200"), ("x", "1"), ("9", "9")],
                Some(500),
            ),
            ("zero", [("0", "1200"), ("0", "1200"), ("9", "9")], None),
            ("none", [("", ""), ("", ""), ("", "")], None),
        ] {
            let root = tree(&[(&format!("{CPU}/online"), "0-2\n")]);
            for (n, (full, allowed)) in files.iter().enumerate() {
                let capacity = if n < 2 { "1024" } else { "400" };
                let cpu = format!("{CPU}/cpu{n}");
                put(
                    root.path(),
                    &[
                        (&format!("{cpu}/cpu_capacity"), capacity),
                        (&format!("{cpu}/cpufreq/cpuinfo_max_freq"), full),
                        (&format!("{cpu}/cpufreq/scaling_max_freq"), allowed),
                    ],
                );
            }
            let read = find(root.path()).read(&mut true);
            assert_eq!(read, cap.map(Permille), "{name}");
        }
    }

    #[test]
    fn cores_with_a_common_clock_are_read_once() {
        let root = tree(&[(&format!("{CPU}/online"), "0-1\n")]);
        for n in 0..2 {
            let clock = format!("{CPU}/cpu{n}/cpufreq");
            put(
                root.path(),
                &[
                    (&format!("{clock}/cpuinfo_max_freq"), "1800000\n"),
                    (&format!("{clock}/related_cpus"), "0 1 \n"),
                ],
            );
        }
        assert_eq!(find(root.path()).sources().len(), 1);
    }

    #[test]
    fn a_core_that_goes_offline_is_noted() {
        let root = tree(&[(&format!("{CPU}/online"), "0-1\n")]);
        let cpu = find(root.path());
        let mut complete = true;
        cpu.read(&mut complete);
        assert!(complete);
        put(root.path(), &[(&format!("{CPU}/online"), "0\n")]);
        cpu.read(&mut complete);
        assert!(!complete);
    }
}
