//! Floor 2: kernel files under an injected root, read into a
//! [`Reading`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::governor::Reading;
use crate::units::{Bytes, MilliCelsius};

/// Reads the board's sensors below a root folder (`/` on a real board).
#[derive(Clone, Debug)]
pub struct Sensors {
    root: PathBuf,
}

/// Trip points below this are fan steps on some boards, not limits.
const PASSIVE_FLOOR: MilliCelsius = MilliCelsius(65_000);

impl Sensors {
    /// Sensors below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// One look at the board; what cannot be read is `None`.
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        if let Some((temperature, zone)) = self.hottest_zone() {
            reading.temperature = Some(temperature);
            for (kind, at) in trips(&zone) {
                match kind.as_str() {
                    "passive" if at >= PASSIVE_FLOOR => {
                        reading.passive_trip =
                            Some(reading.passive_trip.map_or(at, |old| old.min(at)));
                    }
                    "critical" => reading.critical_trip = Some(at),
                    _ => {}
                }
            }
        }
        if let Ok(text) = fs::read_to_string(self.root.join("proc/meminfo")) {
            reading.memory.total = meminfo(&text, "MemTotal:");
            reading.memory.available = meminfo(&text, "MemAvailable:");
        }
        reading
    }

    /// The biggest cores this process may run on, counted: on a big.LITTLE board
    /// small cores only hold the big ones up at every barrier.
    pub fn big_cores(&self) -> u32 {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        let capacities: Vec<u32> = (0..allowed_cpus_max())
            .map_while(|cpu| {
                number(
                    &self
                        .root
                        .join(format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity")),
                )
            })
            .collect();
        let biggest = capacities.iter().max().copied();
        let big = capacities.iter().filter(|c| Some(**c) == biggest).count();
        let cores = if big == 0 { allowed } else { big.min(allowed) };
        u32::try_from(cores).unwrap_or(1).max(1)
    }

    /// The hottest CPU or `SoC` zone; zone names are not portable, so where none
    /// looks like a CPU's the hottest of all counts.
    fn hottest_zone(&self) -> Option<(MilliCelsius, PathBuf)> {
        let zones = fs::read_dir(self.root.join("sys/class/thermal")).ok()?;
        let mut best: Option<(bool, MilliCelsius, PathBuf)> = None;
        for zone in zones.flatten().map(|e| e.path()) {
            if !zone
                .file_name()
                .is_some_and(|n| n.as_encoded_bytes().starts_with(b"thermal_zone"))
            {
                continue;
            }
            let Some(temperature) = number::<i32>(&zone.join("temp")) else {
                continue;
            };
            // Broken sensors say absurd things (0 K, 1000 °C): better none than that.
            if !(-40_000..=200_000).contains(&temperature) {
                continue;
            }
            let kind = fs::read_to_string(zone.join("type"))
                .unwrap_or_default()
                .to_lowercase();
            let is_cpu = ["cpu", "soc", "package", "pkg", "bigcore", "center"]
                .iter()
                .any(|part| kind.contains(part));
            let candidate = (is_cpu, MilliCelsius(temperature), zone);
            if best
                .as_ref()
                .is_none_or(|b| (b.0, b.1) < (candidate.0, candidate.1))
            {
                best = Some(candidate);
            }
        }
        best.map(|(_, temperature, zone)| (temperature, zone))
    }
}

/// CPU numbers are looked at up to this; the loop ends at the first missing one.
fn allowed_cpus_max() -> u32 {
    512
}

fn trips(zone: &Path) -> impl Iterator<Item = (String, MilliCelsius)> {
    (0..16).map_while(move |n| {
        let kind = fs::read_to_string(zone.join(format!("trip_point_{n}_type"))).ok()?;
        let at = number(&zone.join(format!("trip_point_{n}_temp")))?;
        Some((kind.trim().to_owned(), MilliCelsius(at)))
    })
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn meminfo(text: &str, key: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_pi_5_with_fan_ignores_active_trips() {
        let root = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            (
                "sys/class/thermal/thermal_zone0/trip_point_0_type",
                "critical\n",
            ),
            (
                "sys/class/thermal/thermal_zone0/trip_point_0_temp",
                "110000\n",
            ),
            (
                "sys/class/thermal/thermal_zone0/trip_point_1_type",
                "active\n",
            ),
            (
                "sys/class/thermal/thermal_zone0/trip_point_1_temp",
                "67500\n",
            ),
            (
                "proc/meminfo",
                "MemTotal:        4051000 kB\nMemAvailable:    3000000 kB\n",
            ),
        ]);
        let reading = Sensors::new(root.path()).read();
        assert_eq!(reading.temperature, Some(MilliCelsius(48_312)));
        assert_eq!(reading.passive_trip, None);
        assert_eq!(reading.critical_trip, Some(MilliCelsius(110_000)));
        assert_eq!(reading.memory.available, Some(Bytes(3_000_000 * 1024)));
    }

    #[test]
    fn the_cpu_zone_wins_over_a_hotter_other_one() {
        let root = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "gpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "70000\n"),
            ("sys/class/thermal/thermal_zone1/type", "soc-thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "60000\n"),
        ]);
        let reading = Sensors::new(root.path()).read();
        assert_eq!(reading.temperature, Some(MilliCelsius(60_000)));
    }

    #[test]
    fn broken_files_are_none() {
        let root = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu_thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "not a number\n"),
            ("sys/class/thermal/thermal_zone1/type", "cpu_thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-273000\n"),
            ("proc/meminfo", "MemTotal: lots\n"),
        ]);
        assert_eq!(Sensors::new(root.path()).read(), Reading::default());
        assert_eq!(Sensors::new("/nonexistent").read(), Reading::default());
    }

    #[test]
    fn big_cores_only() {
        let root = tree(&[
            ("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n"),
            ("sys/devices/system/cpu/cpu1/cpu_capacity", "414\n"),
        ]);
        assert_eq!(Sensors::new(root.path()).big_cores(), 1);
        assert!(Sensors::new("/nonexistent").big_cores() >= 1);
    }
}
