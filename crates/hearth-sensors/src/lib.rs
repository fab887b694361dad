//! Kernel files under an injected root, read into a [`Reading`].
//!
//! [`Sensors::read`] runs every second on a small board: the paths are looked up once, and
//! again when a file that was found fails, when cores go online or offline, or after 60
//! readings. A reading in between opens about ten files.

mod cgroup;
mod cpu;
mod files;
mod firmware;
mod memory;
pub mod process;
mod psi;
mod sources;
mod thermal;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use sources::Sources;

use hearth_proto::reading::Reading;

use cgroup::Cgroup;
use cpu::Cpu;
use files::noted;
use firmware::RaspberryPi;
use memory::MemoryFiles;
use thermal::Thermal;

/// Readings after which everything is looked up again: an administrator may have changed
/// trip points, memory and CPU limits or the set of allowed cores.
const READS: u32 = 60;

/// Reads the board's sensors below a root folder (`/` on a real board).
#[derive(Debug)]
pub struct Sensors {
    root: PathBuf,
    found: Mutex<Option<Found>>,
}

/// Paths, and values that seldom change.
#[derive(Debug)]
struct Found {
    reads_left: u32,
    thermal: Thermal,
    pi: Option<RaspberryPi>,
    cpu: Cpu,
    memory: MemoryFiles,
    psi_cpu: Option<PathBuf>,
}

impl Sensors {
    /// Sensors below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            found: Mutex::default(),
        }
    }

    /// Takes one reading; a value that cannot be read is `None`.
    pub fn read(&self) -> Reading {
        self.with_found(|found| {
            let mut complete = true;
            let reading = found.read(&mut complete);
            // A driver may be loaded after the first reading.
            let has_zones = !found.thermal.zones.is_empty();
            found.reads_left = if complete && has_zones {
                found.reads_left.saturating_sub(1)
            } else {
                0
            };
            reading
        })
    }

    /// The systemd unit that a process belongs to; `None` if it is unknown.
    pub fn unit(&self, pid: u32) -> Option<String> {
        unit::unit(&self.root, pid)
    }

    /// Memory of a process; `None` if it is unknown.
    pub fn process_memory(&self, pid: u32) -> Option<process::ProcessMemory> {
        process::memory(&self.root, pid)
    }

    /// Default number of compute threads, where none is configured.
    pub fn threads_max(&self) -> u32 {
        self.read().cores.threads_max().unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            u32::try_from(cores).unwrap_or(1)
        })
    }

    /// Which files the readings come from.
    pub fn sources(&self) -> Sources {
        let board = firmware::model(&self.root);
        self.with_found(|found| found.sources(board))
    }

    fn with_found<T>(&self, then: impl FnOnce(&mut Found) -> T) -> T {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = found
            .take()
            .filter(|found| found.reads_left > 0)
            .unwrap_or_else(|| Found::find(&self.root));
        let result = then(&mut current);
        *found = Some(current);
        result
    }
}

impl Found {
    fn find(root: &Path) -> Self {
        let cgroup = Cgroup::find(root);
        Self {
            reads_left: READS,
            thermal: Thermal::find(root),
            pi: RaspberryPi::find(root),
            cpu: Cpu::find(root, &cgroup),
            memory: MemoryFiles::find(root, &cgroup),
            psi_cpu: psi::find([root.join("proc/pressure/cpu")]),
        }
    }

    fn read(&self, complete: &mut bool) -> Reading {
        let psi_cpu = self.psi_cpu.as_deref();
        Reading {
            temperature: self.thermal.read(complete),
            passive_trip: self.thermal.passive,
            critical_trip: self.thermal.critical,
            firmware_limit: self.pi.as_ref().map(|pi| pi.limit),
            firmware: self.pi.as_ref().and_then(|pi| pi.read(complete)),
            frequency_cap: self.cpu.read(complete),
            cores: self.cpu.cores,
            memory: self.memory.read(complete),
            psi_cpu: psi_cpu.and_then(|file| noted(psi::read(file), complete)),
        }
    }

    fn sources(&self, board: Option<String>) -> Sources {
        let zones = self.thermal.zones.iter();
        let meminfo = [self.memory.meminfo.clone()].into_iter();
        let pi = self.pi.as_ref();
        Sources {
            board,
            zones: zones.map(|z| (z.name.clone(), z.path.clone())).collect(),
            firmware: pi.map(RaspberryPi::sources).unwrap_or_default(),
            firmware_config: pi.and_then(|pi| pi.config.clone()),
            frequency: self.cpu.sources(),
            memory: meminfo.chain(self.memory.current.clone()).collect(),
            psi_memory: self.memory.psi.clone(),
            psi_cpu: self.psi_cpu.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::units::MilliCelsius;

    use super::files::tests::{put, tree};
    use super::*;

    const TEMP: &str = "sys/class/thermal/thermal_zone0/temp";
    const ZONE: (&str, &str) = ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    const NEW: [(&str, &str); 2] = [
        ("sys/class/thermal/thermal_zone1/type", "cpu1-thermal\n"),
        ("sys/class/thermal/thermal_zone1/temp", "60000\n"),
    ];

    fn temperature(sensors: &Sensors) -> Option<i32> {
        sensors.read().temperature.map(|t| t.0)
    }

    #[test]
    fn without_files_nothing_is_known() {
        assert_eq!(Sensors::new("/nonexistent").read(), Reading::default());
    }

    #[test]
    fn found_sensors_are_cached_until_they_expire() {
        let root = tree(&[ZONE, (TEMP, "50000\n")]);
        let sensors = Sensors::new(root.path());
        assert_eq!(temperature(&sensors), Some(50_000));
        put(root.path(), &NEW);
        for n in 1..READS {
            assert_eq!(temperature(&sensors), Some(50_000), "reading {n}");
        }
        assert_eq!(temperature(&sensors), Some(60_000));
    }

    #[test]
    fn a_failing_file_triggers_a_new_search() {
        let root = tree(&[ZONE, (TEMP, "50000\n")]);
        let sensors = Sensors::new(root.path());
        assert_eq!(temperature(&sensors), Some(50_000));
        put(root.path(), &NEW);
        put(root.path(), &[(TEMP, "")]);
        assert_eq!(temperature(&sensors), None);
        assert_eq!(temperature(&sensors), Some(60_000));
    }

    #[test]
    fn a_recovered_sensor_is_used_at_once() {
        let root = tree(&[ZONE, (TEMP, "")]);
        let sensors = Sensors::new(root.path());
        assert_eq!(temperature(&sensors), None);
        put(root.path(), &[(TEMP, "50000\n")]);
        assert_eq!(sensors.read().temperature, Some(MilliCelsius(50_000)));
    }
}
