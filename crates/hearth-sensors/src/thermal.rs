//! Thermal zones (kernel: Documentation/driver-api/thermal/sysfs-api.rst).

use std::path::{Path, PathBuf};

use hearth_proto::units::MilliCelsius;

use super::files::{entries, noted, number, text};

/// Passive trip points below this are not limits: an Allwinner H618 has one at 60 °C that
/// only activates its power allocator.
const PASSIVE_FLOOR: MilliCelsius = MilliCelsius(65_000);

/// Broken sensors report implausible values (0 K, 1000 °C), which are discarded. Silicon
/// works from -40 to 125 °C; the rest is a margin for the sensor's error.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = -40_000..=150_000;

/// Trip points of one zone that are read; the most that a known driver has is twelve.
const TRIPS_MAX: u32 = 32;

/// What a zone measures, by its name; later variants take precedence over earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Something else on the board, perhaps on the same chip.
    Other,
    /// The single zone of a PC's firmware, located near the CPU.
    Acpi,
    /// The CPU or the chip it is on.
    Cpu,
}

/// One zone.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// `type`: the name that the device tree or the driver gave it.
    pub(super) name: String,
    /// Its folder.
    pub(super) path: PathBuf,
    temp: PathBuf,
}

/// The zones to read and their trip points.
#[derive(Debug, Default)]
pub(super) struct Thermal {
    pub(super) zones: Vec<Zone>,
    pub(super) passive: Option<MilliCelsius>,
    pub(super) critical: Option<MilliCelsius>,
    /// Whether one of them reported a temperature when they were looked up.
    answered: bool,
}

impl Thermal {
    /// Looks up the zones of the CPU; if none of these can be read, those of the next best
    /// kind.
    pub(super) fn find(root: &Path) -> Self {
        let folder = root.join("sys/class/thermal");
        let all: Vec<(Kind, Zone)> = entries(&folder, |name| name.starts_with("thermal_zone"))
            .into_iter()
            .filter_map(|path| {
                let name = text(&path.join("type")).unwrap_or_default();
                let temp = path.join("temp");
                Some((kind(&name)?, Zone { name, path, temp }))
            })
            .collect();
        let answering = all
            .iter()
            .filter(|(_, zone)| zone.read().is_some())
            .map(|(kind, _)| *kind)
            .max();
        // If no zone can be read at the moment, the best kind is used.
        let Some(best) = answering.or_else(|| all.iter().map(|(kind, _)| *kind).max()) else {
            return Self::default();
        };
        let mut thermal = Self {
            answered: answering.is_some(),
            ..Self::default()
        };
        for (_, zone) in all.into_iter().filter(|(kind, _)| *kind == best) {
            for (kind, at) in zone.trips() {
                let lowest = match kind.as_str() {
                    "passive" if at >= PASSIVE_FLOOR && !zone.has_users_trips() => {
                        &mut thermal.passive
                    }
                    "critical" => &mut thermal.critical,
                    _ => continue,
                };
                *lowest = Some(lowest.map_or(at, |old| old.min(at)));
            }
            thermal.zones.push(zone);
        }
        thermal
    }

    /// The temperature of the hottest zone.
    pub(super) fn read(&self, complete: &mut bool) -> Option<MilliCelsius> {
        let hottest = self.zones.iter().filter_map(Zone::read).max();
        if self.answered {
            return noted(hottest, complete);
        }
        hottest
    }
}

impl Zone {
    fn read(&self) -> Option<MilliCelsius> {
        let value = number(&self.temp)?;
        PLAUSIBLE.contains(&value).then_some(MilliCelsius(value))
    }

    /// Trip points by type. Drivers report a missing one as 0 or as a value far below absolute
    /// zero.
    fn trips(&self) -> impl Iterator<Item = (String, MilliCelsius)> {
        (0..TRIPS_MAX)
            .map_while(|n| {
                let kind = text(&self.path.join(format!("trip_point_{n}_type")))?;
                Some((
                    kind,
                    number(&self.path.join(format!("trip_point_{n}_temp"))),
                ))
            })
            .filter_map(|(kind, at)| {
                let at = at.filter(|at| *at > 0 && PLAUSIBLE.contains(at))?;
                Some((kind, MilliCelsius(at)))
            })
    }

    /// Whether programs set the zone's trip points to be notified of a temperature, as
    /// thermald does (kernel: Documentation/driver-api/thermal/x86_pkg_temperature_thermal.rst).
    fn has_users_trips(&self) -> bool {
        self.name == "x86_pkg_temp"
    }
}

/// What a zone of this name measures; `None` if its temperature does not depend on the
/// CPU: a Jetson Nano's `PMIC-Die` always reports 100 °C.
///
/// Names are chosen by the device tree: `cpu-thermal`, `cpu_thermal`, `cpu0-thermal`,
/// `soc-thermal`, `soc_thermal`, `bigcore0-thermal`, `littlecore-thermal`,
/// `center-thermal`, `package-thermal`, `CPU-therm`, `tj-thermal`, `x86_pkg_temp`,
/// `TCPU`, `bcm2835_thermal`, `imx_thermal_zone`, `cluster0_thermal`, ...
fn kind(name: &str) -> Option<Kind> {
    const CPU: [&str; 11] = [
        "cpu",
        "soc",
        "core",
        "package",
        "pkg",
        "center",
        "cluster",
        "tj-",
        "mpu",
        "bcm2835",
        "imx_thermal",
    ];
    const FOREIGN: [&str; 8] = [
        "pmic", "fan", "bat", "charger", "iwl", "wifi", "wlan", "nvme",
    ];
    let name = name.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&CPU) {
        Some(Kind::Cpu)
    } else if name.starts_with("acpitz") {
        Some(Kind::Acpi)
    } else if has(&FOREIGN) {
        None
    } else {
        Some(Kind::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{put, tree};
    use super::*;

    fn read(root: &Path) -> Option<i32> {
        Thermal::find(root).read(&mut true).map(|t| t.0)
    }

    fn zones(zones: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tree(&[]);
        for (n, (name, temp)) in zones.iter().enumerate() {
            let zone = format!("sys/class/thermal/thermal_zone{n}");
            put(
                root.path(),
                &[
                    (&format!("{zone}/type"), name),
                    (&format!("{zone}/temp"), temp),
                ],
            );
        }
        root
    }

    #[test]
    fn zone_names_of_known_boards_are_classified() {
        for (name, is) in [
            ("cpu-thermal", Some(Kind::Cpu)),
            ("cpu_thermal", Some(Kind::Cpu)),
            ("cpu0-thermal", Some(Kind::Cpu)),
            ("cpu_thermal_zone", Some(Kind::Cpu)),
            ("CPU-therm", Some(Kind::Cpu)),
            ("soc-thermal", Some(Kind::Cpu)),
            ("soc_thermal", Some(Kind::Cpu)),
            ("soc0-thermal", Some(Kind::Cpu)),
            ("tj-thermal", Some(Kind::Cpu)),
            ("bigcore2-thermal", Some(Kind::Cpu)),
            ("littlecore-thermal", Some(Kind::Cpu)),
            ("center-thermal", Some(Kind::Cpu)),
            ("package-thermal", Some(Kind::Cpu)),
            ("x86_pkg_temp", Some(Kind::Cpu)),
            ("TCPU", Some(Kind::Cpu)),
            ("bcm2835_thermal", Some(Kind::Cpu)),
            ("imx_thermal_zone", Some(Kind::Cpu)),
            ("acpitz", Some(Kind::Acpi)),
            ("gpu-thermal", Some(Kind::Other)),
            ("GPU-therm", Some(Kind::Other)),
            ("ddr-thermal", Some(Kind::Other)),
            ("main0-thermal", Some(Kind::Other)),
            ("", Some(Kind::Other)),
            ("PMIC-Die", None),
            ("thermal-fan-est", None),
            ("iwlwifi_1", None),
            ("battery", None),
        ] {
            assert_eq!(kind(name), is, "{name}");
        }
    }

    #[test]
    fn the_hottest_of_the_best_ranked_zones_counts() {
        for (name, files, temperature) in [
            ("one", &[("cpu-thermal", "48312\n")][..], Some(48_312)),
            (
                "a hotter GPU",
                &[("gpu-thermal", "70000"), ("soc-thermal", "60000")],
                Some(60_000),
            ),
            (
                "two clusters",
                &[("bigcore0-thermal", "61000"), ("bigcore2-thermal", "63000")],
                Some(63_000),
            ),
            (
                "the package before ACPI",
                &[("acpitz", "90000"), ("x86_pkg_temp", "50000")],
                Some(50_000),
            ),
            (
                "ACPI before the rest",
                &[("acpitz", "40000"), ("pch_cannonlake", "60000")],
                Some(40_000),
            ),
            (
                "no name that says anything",
                &[("a", "40000"), ("b", "41000")],
                Some(41_000),
            ),
            (
                "a silent and an answering zone",
                &[("cpu0-thermal", ""), ("cpu1-thermal", "44000")],
                Some(44_000),
            ),
            (
                "silent CPU: the next best",
                &[("cpu-thermal", ""), ("gpu-thermal", "44000")],
                Some(44_000),
            ),
            ("garbage", &[("cpu-thermal", "hot\n")], None),
            ("absolute zero", &[("cpu-thermal", "-273000\n")], None),
            ("1000 degrees", &[("cpu-thermal", "1000000\n")], None),
            ("too long", &[("cpu-thermal", "99999999999999\n")], None),
            ("only a PMIC", &[("PMIC-Die", "100000\n")], None),
            ("none", &[], None),
        ] {
            assert_eq!(read(zones(files).path()), temperature, "{name}");
        }
    }

    /// A table; longer than a screen: one row for each board.
    #[test]
    fn trip_points_are_chosen_by_type_and_temperature() {
        for (name, zone, trips, passive, critical) in [
            (
                "Pi 5: the fan's steps",
                "cpu-thermal",
                &[("critical", "110000"), ("active", "67500")][..],
                None,
                Some(110_000),
            ),
            (
                "Allwinner: 60 wakes, 70 limits",
                "cpu-thermal",
                &[
                    ("passive", "60000"),
                    ("passive", "70000"),
                    ("critical", "110000"),
                ],
                Some(70_000),
                Some(110_000),
            ),
            (
                "the lowest of each",
                "cpu-thermal",
                &[
                    ("passive", "90000"),
                    ("passive", "85000"),
                    ("critical", "120000"),
                    ("critical", "115000"),
                ],
                Some(85_000),
                Some(115_000),
            ),
            (
                "garbage between good ones",
                "cpu-thermal",
                &[
                    ("passive", "x"),
                    ("passive", "-274000"),
                    ("critical", "0"),
                    ("passive", "95000"),
                ],
                Some(95_000),
                None,
            ),
            (
                "what thermald has set",
                "x86_pkg_temp",
                &[("passive", "70000")],
                None,
                None,
            ),
            (
                "exactly the floor",
                "cpu-thermal",
                &[("passive", "65000")],
                Some(65_000),
                None,
            ),
        ] {
            let root = zones(&[(zone, "50000")]);
            for (n, (kind, at)) in trips.iter().enumerate() {
                let trip = format!("sys/class/thermal/thermal_zone0/trip_point_{n}");
                put(
                    root.path(),
                    &[
                        (&format!("{trip}_type"), kind),
                        (&format!("{trip}_temp"), at),
                    ],
                );
            }
            let thermal = Thermal::find(root.path());
            assert_eq!(thermal.passive.map(|t| t.0), passive, "{name}");
            assert_eq!(thermal.critical.map(|t| t.0), critical, "{name}");
        }
    }

    #[test]
    fn a_zone_is_reported_lost_only_if_it_was_read_before() {
        for (first, noted) in [("50000", false), ("", true)] {
            let root = zones(&[("cpu-thermal", first)]);
            let thermal = Thermal::find(root.path());
            put(
                root.path(),
                &[("sys/class/thermal/thermal_zone0/temp", "garbage")],
            );
            let mut complete = true;
            assert_eq!(thermal.read(&mut complete), None);
            assert_eq!(complete, noted, "{first:?}");
        }
    }
}
