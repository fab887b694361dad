//! A simulated board: the CPU time of the real engine heats it, and the governor reads its
//! files instead of those of this machine's kernel.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_policy::simulator::{Board, Plant};
use hearth_sensors::process::cpu_time;
use nix::unistd::{SysconfVar, sysconf};
use tempfile::TempDir;

use crate::daemon::Daemon;

/// How often the board's files are rewritten.
const STEP: Duration = Duration::from_millis(500);
/// Files that a simulated board takes from this machine: memory, pressure, and the limits of
/// the service.
const REAL: [&str; 4] = [
    "proc/meminfo",
    "proc/pressure",
    "proc/self",
    "sys/fs/cgroup",
];

pub(super) struct Simulated {
    root: TempDir,
    plant: Plant,
    threads: u32,
}

impl Simulated {
    /// Creates the board's files in the state after a long time without work at this
    /// ambient temperature.
    pub(super) fn new(board: &Board, ambient_celsius: f64) -> io::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("hearthd-board-")
            .tempdir()?;
        for path in REAL {
            let link = root.path().join(path);
            link.parent().map_or(Ok(()), fs::create_dir_all)?;
            symlink(Path::new("/").join(path), link)?;
        }
        let simulated = Self {
            root,
            plant: Plant::new(board, ambient_celsius),
            threads: board.threads,
        };
        simulated.write()?;
        Ok(simulated)
    }

    /// The folder to read sensors from.
    pub(super) fn root(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// Heats the board according to the engine's CPU time; never returns.
    pub(super) async fn follow(self, daemon: Daemon) {
        let mut interval = tokio::time::interval(STEP);
        let (mut simulated, mut before) = (self, (None, Duration::ZERO));
        loop {
            interval.tick().await;
            let status = daemon.status();
            let stepped = tokio::task::spawn_blocking(move || {
                let after = simulated.step_of(status.engine_pid, status.max_threads, before);
                (simulated, after)
            });
            let Ok(after) = stepped.await else {
                return;
            };
            (simulated, before) = after;
        }
    }

    /// One step with the CPU time that the engine has used since `before`; returns the
    /// process and the time that it has used now.
    fn step_of(
        &mut self,
        pid: Option<u32>,
        threads_max: u32,
        before: (Option<u32>, Duration),
    ) -> (Option<u32>, Duration) {
        let used = pid.and_then(|pid| cpu_time(pid, ticks_per_second()));
        let used = used.unwrap_or_default();
        let worked = match before {
            (last, so_far) if last == pid => used.saturating_sub(so_far),
            _ => Duration::ZERO,
        };
        self.step(worked, threads_max);
        if let Err(error) = self.write() {
            log::warn!("cannot update the simulated board: {error}");
        }
        (pid, used)
    }

    /// Simulates one step (half a second) in which the engine used this much CPU time. The
    /// threads that it may use here are scaled to the cores of the board.
    fn step(&mut self, worked: Duration, threads_max: u32) {
        let cores = worked.as_secs_f64() / STEP.as_secs_f64();
        let cores = cores * f64::from(self.threads) / f64::from(threads_max.max(1));
        let cores = cores.clamp(0.0, f64::from(self.threads));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between nothing and the board's cores"
        )]
        let threads = (cores.ceil() as u32).max(1);
        let power = self.plant.power(threads, cores / f64::from(threads));
        self.plant.step(STEP.as_secs_f64(), power);
    }

    /// Writes what has changed; a reader sees the old file or the new one, never a partial
    /// one.
    fn write(&self) -> io::Result<()> {
        for (path, content) in self.plant.files() {
            let path = self.root.path().join(path);
            let content = content + "\n";
            if fs::read_to_string(&path).is_ok_and(|old| old == content) {
                continue;
            }
            let folder = path.parent().unwrap_or(&path);
            fs::create_dir_all(folder)?;
            let file = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(&file, content)?;
            file.persist(&path)?;
        }
        Ok(())
    }
}

/// Units per second of CPU time in proc(5).
#[expect(clippy::cast_precision_loss, reason = "one hundred")]
fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_policy::simulator::{BOARDS, board};
    use hearth_proto::units::MilliCelsius;
    use hearth_sensors::Sensors;

    #[test]
    fn the_sensors_read_the_simulated_values() {
        for board in &BOARDS {
            let mut simulated = Simulated::new(board, 25.0).unwrap();
            let sensors = Sensors::new(simulated.root());
            for minutes in 0..10 {
                let real = simulated.plant.reading();
                let read = sensors.read();
                let name = format!("{} after {minutes} min", board.name);
                assert_eq!(read.temperature, real.temperature, "{name}");
                assert_eq!(read.critical_trip, real.critical_trip, "{name}");
                assert_eq!(read.passive_trip, real.passive_trip, "{name}");
                assert_eq!(read.firmware, real.firmware, "{name}");
                assert_eq!(read.firmware_limit, real.firmware_limit, "{name}");
                let cap = real.frequency_cap.map_or(1000, |cap| cap.0);
                assert!(
                    read.frequency_cap.unwrap().0.abs_diff(cap) <= 1,
                    "{name}: {cap} {read:?}"
                );
                assert!(read.memory.total.is_some(), "{name}");
                for _ in 0..120 {
                    simulated.step(STEP * 2, 2);
                }
                simulated.write().unwrap();
            }
            let text = sensors.sources().to_string();
            assert!(text.contains("(simulated)"), "{text}");
        }
    }

    #[test]
    fn the_power_depends_on_the_used_share_of_the_threads() {
        let celsius = |worked: Duration, most| {
            let mut simulated = Simulated::new(board("pi4-poor").unwrap(), 25.0).unwrap();
            for _ in 0..600 {
                simulated.step(worked, most);
            }
            simulated.plant.reading().temperature.unwrap()
        };
        let [none, half, all] = [0, 1, 2].map(|n| celsius(STEP * n, 2));
        assert!(none < half && half < all, "{none:?} {half:?} {all:?}");
        assert!(all > MilliCelsius(80_000), "{all:?}");
        // Half of two cores gives the same power as half of four.
        assert_eq!(half, celsius(STEP * 2, 4));
    }
}
