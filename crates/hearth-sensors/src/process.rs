//! What the kernel knows of one process (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

use hearth_proto::units::Bytes;

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// All of its pages in memory (`VmRSS`).
    pub resident: Bytes,
    /// Those that are not pages of files (`RssAnon`, `RssShmem`): the kernel cannot discard
    /// them, so that `MemAvailable` does not contain them.
    pub anonymous: Bytes,
}

/// Memory of a process by the files below `root`; `None` if there is no such process.
pub fn memory(root: &Path, pid: u32) -> Option<ProcessMemory> {
    let text = fs::read_to_string(root.join(format!("proc/{pid}/status"))).ok()?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(ProcessMemory {
        resident: Bytes(of("VmRSS:")?),
        anonymous: Bytes(of("RssAnon:")? + of("RssShmem:").unwrap_or(0)),
    })
}

/// Resident memory of a process (`VmRSS`); `None` if there is no such process.
pub fn resident(pid: u32) -> Option<Bytes> {
    memory(Path::new("/"), pid).map(|memory| memory.resident)
}

/// CPU time that a process has used so far, in user and kernel mode: fields 14 and 15 of
/// `stat`. `ticks_per_second` is `sysconf(_SC_CLK_TCK)`.
pub fn cpu_time(pid: u32, ticks_per_second: f64) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, and may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let ticks = ticks()? + ticks()?;
    Duration::try_from_secs_f64(ticks / ticks_per_second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cpu_time_of_this_process_are_read() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > Bytes::mib(1));
        assert_eq!(resident(u32::MAX), None);
        let all = memory(Path::new("/"), own).unwrap();
        assert!(all.anonymous > Bytes(0) && all.anonymous < all.resident);
        assert_eq!(memory(Path::new("/nonexistent"), own), None);
        let before = cpu_time(own, 100.0).unwrap();
        while cpu_time(own, 100.0).unwrap() == before {}
        assert_eq!(cpu_time(u32::MAX, 100.0), None);
    }
}
