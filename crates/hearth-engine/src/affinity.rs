//! Where the engine's threads run.

use std::fs;

use hearth_proto::units::CpuSet;
use nix::sched::{CpuSet as Mask, sched_setaffinity};
use nix::unistd::Pid;

/// Puts all threads of this process on these CPUs; threads made later inherit it. With
/// none named the kernel goes on to choose. On a big.LITTLE board a small core among the
/// threads holds the big ones up at every layer.
pub(super) fn pin(cpus: CpuSet) {
    if cpus.is_empty() {
        return;
    }
    let mut mask = Mask::new();
    for cpu in cpus.iter() {
        // Beyond the mask's size: then no thread runs there.
        _ = mask.set(cpu as usize);
    }
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        let id = task.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(id) = id else { continue };
        // A CPU may have gone offline meanwhile, and a thread may have ended.
        if let Err(error) = sched_setaffinity(Pid::from_raw(id), &mask) {
            log::debug!("thread {id} stays where it is: {error}");
        }
    }
}
