//! Floor 2: kernel files under an injected root, read into a
//! [`Reading`].

mod cpu;
mod firmware;
mod memory;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::governor::{Cores, Reading};
use crate::units::MilliCelsius;
use firmware::Files;

/// Reads the board's sensors below a root folder (`/` on a real board).
#[derive(Clone, Debug)]
pub struct Sensors {
    root: PathBuf,
    firmware: OnceLock<Files>,
}

/// Parts of zone names that mean the CPU or the whole chip: cpu-thermal (Raspberry Pi,
/// Allwinner), soc-thermal and bigcore0-thermal (Rockchip), package, `x86_pkg_temp`,
/// CPU-therm (Jetson), k10temp and coretemp.
const CPU_ZONES: [&str; 8] = [
    "cpu", "soc", "package", "pkg", "bigcore", "center", "k10temp", "coretemp",
];

/// Trip points below this are fan steps on some boards, not limits.
const PASSIVE_FLOOR: MilliCelsius = MilliCelsius(65_000);

impl Sensors {
    /// Sensors below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            firmware: OnceLock::new(),
        }
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
                    "critical" => {
                        reading.critical_trip =
                            Some(reading.critical_trip.map_or(at, |old| old.min(at)));
                    }
                    _ => {}
                }
            }
        }
        let firmware = self.firmware.get_or_init(|| Files::find(&self.root));
        reading.firmware_limit = firmware.limit();
        reading.firmware = firmware.read();
        let cgroups = memory::cgroups(&self.root);
        reading.cores = cpu::cores(&self.root, &cgroups);
        reading.frequency_cap = cpu::frequency_cap(&self.root, reading.cores.big);
        reading.memory = memory::memory(&self.root, &cgroups);
        reading.psi_cpu = memory::pressure(&self.root.join("proc/pressure/cpu"));
        reading
    }

    /// The cores that may be computed on now.
    pub fn cores(&self) -> Cores {
        cpu::cores(&self.root, &memory::cgroups(&self.root))
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
            let is_cpu = CPU_ZONES.iter().any(|part| kind.contains(part));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
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
}
