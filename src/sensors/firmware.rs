//! What a Raspberry Pi's firmware says of power, throttling and its own limit.
//!
//! `get_throttled` of the firmware driver (drivers/firmware/raspberrypi.c of the
//! Raspberry Pi kernel): recent kernels hand out the value that their own hardware
//! monitor asked for last, every other second, and the firmware is not asked by our
//! reading; older ones ask as their own poll does. Either way only bits 0 to 3, the
//! present state, are used here, and the sticky bits from 16 on are left to others.

use std::fs;
use std::path::{Path, PathBuf};

use crate::governor::Firmware;
use crate::units::MilliCelsius;

/// `temp_limit` of config.txt where nothing is said (Raspberry Pi documentation,
/// "Overclocking options"): from here on the firmware slows the cores down.
const TEMP_LIMIT: MilliCelsius = MilliCelsius(85_000);

/// The files of one board, looked for once.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    throttled: Option<PathBuf>,
    under_voltage: Option<PathBuf>,
    limit: Option<MilliCelsius>,
}

impl Files {
    pub(super) fn find(root: &Path) -> Self {
        if !is_raspberry_pi(root) {
            return Self::default();
        }
        Self {
            throttled: throttled(root),
            under_voltage: under_voltage(root),
            limit: Some(temp_limit(root)),
        }
    }

    /// Where the firmware begins to slow the cores.
    pub(super) fn limit(&self) -> Option<MilliCelsius> {
        self.limit
    }

    /// What it says now; `None` where it says nothing.
    pub(super) fn read(&self) -> Option<Firmware> {
        let bits = self.throttled.as_deref().and_then(hex);
        let alarm = self.under_voltage.as_deref().and_then(super::number::<u8>);
        if bits.is_none() && alarm.is_none() {
            return None;
        }
        let has = |bit: u32| bits.is_some_and(|bits| bits & (1 << bit) != 0);
        Some(Firmware {
            under_voltage: alarm.map_or_else(|| has(0), |alarm| alarm != 0),
            capped: has(1),
            throttled: has(2),
            soft_limit: has(3),
        })
    }
}

/// By the device tree's model, which ends with a NUL.
fn is_raspberry_pi(root: &Path) -> bool {
    let model = fs::read(root.join("proc/device-tree/model")).unwrap_or_default();
    model.starts_with(b"Raspberry Pi")
}

/// Hexadecimal, with or without `0x`.
fn hex(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// The firmware's node is below `soc` or, on a Pi 5, beside it.
fn throttled(root: &Path) -> Option<PathBuf> {
    let platform = root.join("sys/devices/platform");
    let below = fs::read_dir(platform.join("soc")).into_iter().flatten();
    let beside = fs::read_dir(&platform).into_iter().flatten();
    below
        .chain(beside)
        .flatten()
        .map(|entry| entry.path().join("get_throttled"))
        .find(|path| path.exists())
}

/// The alarm of the hardware monitor `rpi_volt` (drivers/hwmon/raspberrypi-hwmon.c).
fn under_voltage(root: &Path) -> Option<PathBuf> {
    let monitors = fs::read_dir(root.join("sys/class/hwmon")).ok()?;
    let is_it = |path: &PathBuf| {
        let name = fs::read_to_string(path.join("name"));
        name.is_ok_and(|name| name.trim() == "rpi_volt")
    };
    let path = monitors.flatten().map(|entry| entry.path()).find(is_it)?;
    Some(path.join("in0_lcrit_alarm"))
}

/// From config.txt, which lies in another place since Debian 12. Conditional sections
/// are not looked at: the lowest of all lines counts.
fn temp_limit(root: &Path) -> MilliCelsius {
    let text = ["boot/firmware/config.txt", "boot/config.txt"]
        .iter()
        .find_map(|path| fs::read_to_string(root.join(path)).ok())
        .unwrap_or_default();
    let said = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let celsius: i32 = value.trim().parse().ok()?;
        (key.trim() == "temp_limit").then(|| MilliCelsius(celsius.saturating_mul(1000)))
    });
    // Higher ones are taken as 85 by the firmware.
    said.min().map_or(TEMP_LIMIT, |said| said.min(TEMP_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn a_pi_tells_what_is_wrong_now() {
        const BITS: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
        for (text, alarm, wanted) in [
            ("0\n", "0\n", [false; 4]),
            ("50000\n", "0\n", [false; 4]),
            ("0x50005\n", "1\n", [true, false, true, false]),
            ("e\n", "0\n", [false, true, true, true]),
            // The monitor is asked first.
            ("1\n", "0\n", [false; 4]),
            ("1\n", "?\n", [true, false, false, false]),
        ] {
            let root = tree(&[
                ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
                (BITS, text),
                ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
                ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm),
                ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ]);
            let said = Files::find(root.path()).read().unwrap();
            let said = [
                said.under_voltage,
                said.capped,
                said.throttled,
                said.soft_limit,
            ];
            assert_eq!(said, wanted, "{text} {alarm}");
        }
    }

    #[test]
    fn others_and_broken_files_say_nothing() {
        let files = Files::find(Path::new("/nonexistent"));
        assert_eq!((files.read(), files.limit()), (None, None));
        let root = tree(&[
            ("proc/device-tree/model", "Radxa ROCK 5B\0"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "5\n"),
        ]);
        assert_eq!(Files::find(root.path()).read(), None);
        let root = tree(&[
            ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
            ("sys/devices/platform/soc:firmware/get_throttled", "five\n"),
        ]);
        assert_eq!(Files::find(root.path()).read(), None);
    }

    #[test]
    fn the_limit_is_config_txts() {
        for (path, text, limit) in [
            ("boot/firmware/config.txt", "arm_boost=1\n", 85_000),
            ("boot/firmware/config.txt", "[all]\ntemp_limit=75\n", 75_000),
            ("boot/config.txt", "temp_limit = 70\ntemp_limit=80", 70_000),
            ("boot/config.txt", "temp_limit=99\n#temp_limit=1", 85_000),
            ("boot/config.txt", "temp_limit=warm\n", 85_000),
        ] {
            let root = tree(&[("proc/device-tree/model", "Raspberry Pi 4\0"), (path, text)]);
            let files = Files::find(root.path());
            assert_eq!(files.limit(), Some(MilliCelsius(limit)), "{text}");
        }
    }
}
