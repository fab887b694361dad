//! The firmware of a Raspberry Pi, which monitors the supply and throttles the board.

use std::path::{Path, PathBuf};

use hearth_proto::reading::Firmware;
use hearth_proto::units::MilliCelsius;

use super::files::{entries, noted, number, text};

/// Default and highest `temp_limit` of config.txt in °C (Raspberry Pi documentation,
/// "Overclocking options").
const LIMIT_MAX: i32 = 85;

/// A lower `temp_limit` is treated as a typing error.
const LIMIT_MIN: i32 = 40;

/// The files of a Raspberry Pi.
#[derive(Debug)]
pub(super) struct RaspberryPi {
    /// `in0_lcrit_alarm` of the voltage monitor.
    alarm: Option<PathBuf>,
    /// `get_throttled` of the firmware driver.
    throttled: Option<PathBuf>,
    /// The config.txt that was searched for the limit.
    pub(super) config: Option<PathBuf>,
    /// `temp_limit`. The soft limit of a Pi 3A+ or 3B+ (60 °C) is not included: above it
    /// they run at 1.2 instead of 1.4 GHz, and staying below would cost more.
    pub(super) limit: MilliCelsius,
}

/// The board's name in the device tree.
pub(super) fn model(root: &Path) -> Option<String> {
    text(&root.join("proc/device-tree/model")).filter(|model| !model.is_empty())
}

impl RaspberryPi {
    /// Finds the files, if this is a Raspberry Pi.
    ///
    /// What each file reports (kernel: drivers/hwmon/raspberrypi-hwmon.c and, until its
    /// removal in March 2025 (raspberrypi/linux #6697), `get_throttled_show` in
    /// drivers/firmware/raspberrypi.c): the driver `rpi_volt` queries the firmware every
    /// 2 s, with the value 0xffff, which clears the firmware's sticky bits (16 to 19).
    /// The kernel stores the answer, and both files show this stored word: `in0_lcrit_alarm`
    /// its bit 16, under-voltage since the previous query; `get_throttled` all of it, in
    /// hexadecimal digits. Reading them does not query the firmware and clears nothing, so
    /// other users of the sticky bits are not affected. One side effect: the first read of
    /// `get_throttled` since boot makes the kernel log a warning ("deprecated, use hwmon
    /// sysfs instead"), so the file is not used where a warning is a panic. Without
    /// `rpi_volt` the word is not updated after boot, and the file is not used either.
    pub(super) fn find(root: &Path) -> Option<Self> {
        let model = model(root).unwrap_or_default();
        let compatible = text(&root.join("proc/device-tree/compatible")).unwrap_or_default();
        let maker = |name: &str| name.starts_with("raspberrypi,");
        if !model.starts_with("Raspberry Pi") && !compatible.split('\0').any(maker) {
            return None;
        }
        let alarm = entries(&root.join("sys/class/hwmon"), |name| {
            name.starts_with("hwmon")
        })
        .into_iter()
        .find(|folder| text(&folder.join("name")).as_deref() == Some("rpi_volt"))
        .map(|folder| folder.join("in0_lcrit_alarm"))
        .filter(|file| number::<u8>(file).is_some());
        let config = ["boot/firmware/config.txt", "boot/config.txt"]
            .map(|name| root.join(name))
            .into_iter()
            .find_map(|file| Some((limit(&text(&file)?, &model), file)));
        let (limit, config) = config.map_or((None, None), |(limit, file)| (limit, Some(file)));
        let panics = number::<u8>(&root.join("proc/sys/kernel/panic_on_warn")) == Some(1);
        Some(Self {
            throttled: if alarm.is_some() && !panics {
                throttled(root)
            } else {
                None
            },
            alarm,
            config,
            limit: MilliCelsius(limit.unwrap_or(LIMIT_MAX) * 1000),
        })
    }

    pub(super) fn read(&self, complete: &mut bool) -> Option<Firmware> {
        let alarm = self.alarm.as_deref();
        let alarm = alarm.and_then(|file| noted(number::<u8>(file), complete));
        let word = self.throttled.as_deref();
        let word = word.and_then(|file| noted(hexadecimal(file), complete));
        if alarm.is_none() && word.is_none() {
            return None;
        }
        let bit = |n: u32| word.is_some_and(|word| word & (1 << n) != 0);
        Some(Firmware {
            under_voltage: alarm.is_some_and(|alarm| alarm != 0) || bit(0),
            capped: bit(1),
            throttled: bit(2),
            soft_limit: bit(3),
        })
    }

    /// The files read for power and throttling.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        self.alarm.iter().chain(&self.throttled).cloned().collect()
    }
}

/// `get_throttled`: in `soc/soc:firmware` up to the Pi 4 and on the Pi 5 with kernel 6.1,
/// in `soc@107c000000/soc@107c000000:firmware` on the Pi 5 later (the bus has the name of
/// its node in the device tree).
fn throttled(root: &Path) -> Option<PathBuf> {
    let platform = root.join("sys/devices/platform");
    let buses = entries(&platform, |name| {
        name.starts_with("soc") || name.starts_with("axi")
    });
    buses
        .iter()
        .flat_map(|bus| entries(bus, |name| name.ends_with(":firmware")))
        .map(|firmware| firmware.join("get_throttled"))
        .find(|file| hexadecimal(file).is_some())
}

fn hexadecimal(file: &Path) -> Option<u32> {
    let text = text(file)?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// The lowest `temp_limit` in those sections of config.txt that may apply to this model.
/// Conditions on a monitor, a serial number or a pin are not evaluated: a limit that is too
/// low is better than one that is too high.
fn limit(config: &str, model: &str) -> Option<i32> {
    let mut holds = true;
    let mut lowest: Option<i32> = None;
    for line in config.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            holds = may_hold(&section.to_lowercase(), model);
        } else if holds && let Some(value) = line.strip_prefix("temp_limit=") {
            // A comment may follow.
            let digits = value.trim().split(|c: char| !c.is_ascii_digit()).next();
            let value = digits.and_then(|digits| digits.parse().ok());
            if let Some(value) = value.filter(|value| *value >= LIMIT_MIN) {
                lowest = Some(lowest.unwrap_or(LIMIT_MAX).min(value));
            }
        }
    }
    lowest
}

/// Whether a section of config.txt may apply to a model (Raspberry Pi documentation,
/// "Conditional filters"): `[pi4]`, `[pi400]` and `[cm4]` all select models whose first
/// digit is a 4, `[pi0w]` and `[pi02]` a Zero.
fn may_hold(section: &str, model: &str) -> bool {
    let family = |name: &str| name.chars().find(char::is_ascii_digit);
    if section == "none" {
        return false;
    }
    let Some(filter) = ["pi", "cm"].iter().find_map(|p| section.strip_prefix(p)) else {
        return true;
    };
    let name = model.split(" Rev ").next().unwrap_or_default();
    let own = if name.contains("Zero") {
        Some('0')
    } else {
        // The first models have no number.
        family(name).or(Some('1'))
    };
    model.is_empty() || family(filter) == own
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{put, tree};
    use super::*;

    const MODEL: (&str, &str) = ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
    const ALARM: &str = "sys/class/hwmon/hwmon1/in0_lcrit_alarm";
    const NAME: (&str, &str) = ("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
    const WORD: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

    fn read(root: &Path) -> Option<Firmware> {
        RaspberryPi::find(root)?.read(&mut true)
    }

    #[test]
    fn raspberry_pis_are_recognized() {
        for (model, compatible, is) in [
            ("Raspberry Pi 5 Model B Rev 1.0\0", "", true),
            ("", "raspberrypi,4-model-b\0brcm,bcm2711\0", true),
            (
                "Home Pi\0",
                "acme,carrier\0raspberrypi,4-compute-module\0",
                true,
            ),
            ("Radxa ROCK 5B\0", "radxa,rock-5b\0rockchip,rk3588\0", false),
            ("Banana Pi\0", "not-raspberrypi,x\0", false),
            ("", "", false),
        ] {
            let root = tree(&[
                ("proc/device-tree/model", model),
                ("proc/device-tree/compatible", compatible),
            ]);
            assert_eq!(RaspberryPi::find(root.path()).is_some(), is, "{model:?}");
        }
        assert!(RaspberryPi::find(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn throttle_bits_and_the_voltage_alarm_are_read() {
        let none = Firmware::default();
        let under_voltage = Firmware {
            under_voltage: true,
            ..none
        };
        let hot = Firmware {
            capped: true,
            throttled: true,
            ..none
        };
        let soft = Firmware {
            soft_limit: true,
            ..none
        };
        for (alarm, word, expected) in [
            ("0\n", "0\n", Some(none)),
            ("1\n", "0\n", Some(under_voltage)),
            ("0\n", "1\n", Some(under_voltage)),
            ("0\n", "6\n", Some(hot)),
            ("0\n", "0x6\n", Some(hot)),
            ("0\n", "80008\n", Some(soft)),
            ("0\n", "f0000\n", Some(none)),
            ("1\n", "garbage\n", Some(under_voltage)),
            ("1\n", "", Some(under_voltage)),
            // Without the voltage monitor the word is not kept up to date.
            ("x\n", "7\n", None),
            ("", "", None),
        ] {
            let root = tree(&[MODEL, NAME, (ALARM, alarm), (WORD, word)]);
            assert_eq!(read(root.path()), expected, "{alarm:?} {word:?}");
        }
    }

    #[test]
    fn the_throttle_word_is_found() {
        for (path, found) in [
            (WORD, true),
            (
                "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
                true,
            ),
            ("sys/devices/platform/axi/axi:firmware/get_throttled", true),
            (
                "sys/devices/platform/other/other:firmware/get_throttled",
                false,
            ),
        ] {
            let root = tree(&[MODEL, NAME, (ALARM, "0"), (path, "4")]);
            let throttled = read(root.path()).unwrap().throttled;
            assert_eq!(throttled, found, "{path}");
        }
    }

    #[test]
    fn the_throttle_word_is_not_read_where_a_warning_panics() {
        let root = tree(&[
            MODEL,
            NAME,
            (ALARM, "0"),
            (WORD, "4"),
            ("proc/sys/kernel/panic_on_warn", "1\n"),
        ]);
        assert_eq!(read(root.path()), Some(Firmware::default()));
    }

    #[test]
    fn unreadable_files_make_a_reading_incomplete() {
        let root = tree(&[MODEL, NAME, (ALARM, "0"), (WORD, "4")]);
        let pi = RaspberryPi::find(root.path()).unwrap();
        put(root.path(), &[(WORD, "?")]);
        let mut complete = true;
        assert_eq!(pi.read(&mut complete), Some(Firmware::default()));
        assert!(!complete);
    }

    #[test]
    fn temperature_limits_are_read_from_config_txt() {
        let pi4 = "Raspberry Pi 4 Model B Rev 1.4";
        for (config, model, celsius) in [
            ("", pi4, None),
            ("temp_limit=75\n", pi4, Some(75)),
            ("temp_limit=75 # cool\r\n", pi4, Some(75)),
            ("# temp_limit=75\ntemp_soft_limit=70\n", pi4, None),
            ("temp_limit=90\n", pi4, Some(85)),
            ("temp_limit=0\ntemp_limit=\ntemp_limit=hot\n", pi4, None),
            ("temp_limit=99999999999\n", pi4, None),
            ("temp_limit=80\n[pi5]\ntemp_limit=70\n", pi4, Some(80)),
            (
                "[pi5]\ntemp_limit=70\n[all]\ntemp_limit=75\n",
                pi4,
                Some(75),
            ),
            ("[pi4]\ntemp_limit=70\n", pi4, Some(70)),
            (
                "[PI400]\ntemp_limit=70\n",
                "Raspberry Pi 400 Rev 1.0",
                Some(70),
            ),
            (
                "[cm4]\ntemp_limit=70\n",
                "Raspberry Pi Compute Module 4 Rev 1.1",
                Some(70),
            ),
            (
                "[pi02]\ntemp_limit=70\n",
                "Raspberry Pi Zero 2 W Rev 1.0",
                Some(70),
            ),
            (
                "[pi2]\ntemp_limit=70\n",
                "Raspberry Pi Zero 2 W Rev 1.0",
                None,
            ),
            (
                "[pi1]\ntemp_limit=70\n",
                "Raspberry Pi Model B Rev 2",
                Some(70),
            ),
            (
                "[pi3+]\ntemp_limit=70\n",
                "Raspberry Pi 3 Model B Plus Rev 1.3",
                Some(70),
            ),
            ("[none]\ntemp_limit=70\n", pi4, None),
            ("[gpio4=1]\ntemp_limit=70\n", pi4, Some(70)),
            ("[pi5]\ntemp_limit=70\n", "", Some(70)),
        ] {
            assert_eq!(limit(config, model), celsius, "{config:?} {model:?}");
        }
    }

    #[test]
    fn config_txt_is_found_in_both_locations() {
        for (files, celsius) in [
            (&[][..], 85),
            (&[("boot/config.txt", "temp_limit=70")], 70),
            (&[("boot/firmware/config.txt", "temp_limit=75")], 75),
            (
                &[
                    ("boot/config.txt", "DO NOT EDIT THIS FILE\n"),
                    ("boot/firmware/config.txt", "temp_limit=75"),
                ],
                75,
            ),
        ] {
            let root = tree(&[MODEL]);
            put(root.path(), files);
            let pi = RaspberryPi::find(root.path()).unwrap();
            assert_eq!(pi.limit, MilliCelsius(celsius * 1000), "{files:?}");
        }
    }
}
