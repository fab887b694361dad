//! Where the engine's threads run.

use std::fs;

use hearth_proto::units::CpuSet;
use nix::sched::{CpuSet as Mask, sched_setaffinity};
use nix::unistd::Pid;

/// Pins all threads of this process to these CPUs; threads created later inherit the
/// mask. An empty set leaves the choice to the kernel. On a big.LITTLE board a thread on
/// a small core delays the others at every layer.
pub(super) fn pin(cpus: CpuSet) {
    if cpus.is_empty() {
        return;
    }
    let mut mask = Mask::new();
    for cpu in cpus.iter() {
        // A CPU beyond the mask's size is ignored: no thread runs there.
        _ = mask.set(cpu as usize);
    }
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        let id = task.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(id) = id else { continue };
        // The CPU may have gone offline, or the thread may have ended.
        if let Err(error) = sched_setaffinity(Pid::from_raw(id), &mask) {
            log::debug!("cannot set the CPUs of thread {id}: {error}");
        }
    }
}
