//! Readings of real boards: trees of kernel files in `tests/boards/`, each with the sources
//! of its facts, compared with values that were read from them by hand.
//!
//! A line of a tree is `path = content`; `{4-7}` in a path stands for each of these
//! numbers, `\n` and `\0` in the content for the characters. A line break is added at the
//! end, but not after a NUL and not to empty content.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_proto::reading::{Cores, Firmware, Memory, Psi, Reading};
use hearth_proto::units::{Bytes, CpuSet, MilliCelsius, Permille};
use hearth_sensors::Sensors;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards")
}

/// The paths that a pattern stands for.
fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return vec![pattern.to_owned()];
    };
    let (range, after) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
    (first..=last)
        .map(|n| format!("{before}{n}{after}"))
        .collect()
}

/// Writes a board's tree to a temporary root.
fn board(name: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    for line in text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let (pattern, content) = line
            .split_once(" =")
            .unwrap_or_else(|| panic!("{name}: {line}"));
        let mut content = content
            .trim_start()
            .replace("\\n", "\n")
            .replace("\\0", "\0");
        if !content.is_empty() && !content.ends_with('\0') {
            content.push('\n');
        }
        for path in expand(pattern) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &content).unwrap();
        }
    }
    root
}

fn read(name: &str) -> Reading {
    Sensors::new(board(name).path()).read()
}

fn celsius(degrees: f64) -> MilliCelsius {
    #[expect(clippy::cast_possible_truncation, reason = "a table in the test")]
    MilliCelsius((degrees * 1000.0).round() as i32)
}

fn cores(big: &str, allowed: &str, quota: Option<u32>) -> Cores {
    Cores {
        big: CpuSet::parse(big).unwrap(),
        allowed: CpuSet::parse(allowed).unwrap(),
        quota,
    }
}

/// Total, available, total swap and free swap, in KiB.
fn memory([total, available, swap_total, swap_free]: [u64; 4]) -> Memory {
    let kib = |n| Some(Bytes(n * 1024));
    Memory {
        total: kib(total),
        available: kib(available),
        swap_total: kib(swap_total),
        swap_free: kib(swap_free),
        ..Memory::default()
    }
}

fn psi(some: u16, full: u16) -> Psi {
    Psi {
        some_avg10: Permille(some),
        full_avg10: Permille(full),
    }
}

#[test]
fn pi_3b_plus_at_its_soft_limit() {
    let expected = Reading {
        temperature: Some(celsius(61.224)),
        critical_trip: Some(celsius(110.0)),
        firmware_limit: Some(celsius(85.0)),
        firmware: Some(Firmware {
            soft_limit: true,
            ..Firmware::default()
        }),
        frequency_cap: Some(Permille(1000)),
        cores: cores("0-3", "0-3", None),
        memory: memory([931_024, 600_120, 204_796, 204_796]),
        ..Reading::default()
    };
    assert_eq!(read("pi-3b-plus"), expected);
}

#[test]
fn pi_4_with_a_weak_supply() {
    let expected = Reading {
        temperature: Some(celsius(72.54)),
        critical_trip: Some(celsius(110.0)),
        firmware_limit: Some(celsius(80.0)),
        firmware: Some(Firmware {
            under_voltage: true,
            throttled: true,
            ..Firmware::default()
        }),
        frequency_cap: Some(Permille(1000)),
        cores: cores("0-3", "0-3", None),
        memory: memory([3_885_396, 3_000_120, 102_396, 100_000]),
        ..Reading::default()
    };
    assert_eq!(read("pi-4"), expected);
}

#[test]
fn pi_5_whose_trips_turn_a_fan() {
    let expected = Reading {
        temperature: Some(celsius(58.65)),
        passive_trip: None,
        critical_trip: Some(celsius(110.0)),
        firmware_limit: Some(celsius(85.0)),
        firmware: Some(Firmware::default()),
        frequency_cap: Some(Permille(1000)),
        cores: cores("0-3", "0-3", None),
        memory: Memory {
            cgroup_current: Some(Bytes::mib(700)),
            cgroup_max: Some(Bytes::mib(3072)),
            psi: Some(psi(5, 1)),
            ..memory([8_259_952, 7_000_000, 2_097_136, 2_097_136])
        },
        psi_cpu: Some(psi(120, 0)),
    };
    assert_eq!(read("pi-5-fan"), expected);
}

#[test]
fn rk3588_with_one_big_cluster_capped() {
    let expected = Reading {
        temperature: Some(celsius(85.615)),
        passive_trip: Some(celsius(85.0)),
        critical_trip: Some(celsius(115.0)),
        // 2016 of 2400 MHz; the little cores at 408 of 1800 are not used.
        frequency_cap: Some(Permille(840)),
        cores: cores("4-7", "0-7", None),
        memory: Memory {
            cgroup_current: Some(Bytes::mib(1024)),
            psi: Some(psi(0, 0)),
            ..memory([16_207_416, 14_000_000, 0, 0])
        },
        psi_cpu: Some(psi(10, 0)),
        ..Reading::default()
    };
    assert_eq!(read("rk3588"), expected);
}

#[test]
fn allwinner_h5_with_control_groups_of_version_1() {
    let expected = Reading {
        temperature: Some(celsius(64.917)),
        passive_trip: Some(celsius(80.0)),
        critical_trip: Some(celsius(100.0)),
        frequency_cap: Some(Permille(1000)),
        cores: cores("0-3", "0-3", None),
        memory: memory([1_016_712, 700_000, 508_352, 400_000]),
        ..Reading::default()
    };
    assert_eq!(read("allwinner-h5"), expected);
}

#[test]
fn allwinner_h618_with_a_quota() {
    let expected = Reading {
        temperature: Some(celsius(69.82)),
        passive_trip: Some(celsius(70.0)),
        critical_trip: Some(celsius(110.0)),
        frequency_cap: Some(Permille(936)),
        cores: cores("1-3", "1-3", Some(3)),
        memory: memory([4_021_248, 420_000, 2_010_624, 1_500_000]),
        ..Reading::default()
    };
    assert_eq!(read("allwinner-h618"), expected);
}

#[test]
fn jetson_nano_whose_pmic_is_not_its_cpu() {
    let expected = Reading {
        temperature: Some(celsius(45.0)),
        passive_trip: Some(celsius(97.0)),
        critical_trip: Some(celsius(102.5)),
        frequency_cap: Some(Permille(620)),
        cores: cores("0-3", "0-3", None),
        memory: memory([4_059_392, 3_000_000, 2_029_696, 2_029_696]),
        ..Reading::default()
    };
    assert_eq!(read("jetson-nano"), expected);
}

#[test]
fn a_pc_with_threads_and_small_cores() {
    let expected = Reading {
        temperature: Some(celsius(63.0)),
        frequency_cap: Some(Permille(800)),
        cores: cores("0,2", "0-7", None),
        memory: Memory {
            cgroup_current: Some(Bytes::mib(100)),
            psi: Some(psi(0, 0)),
            ..memory([32_768_000, 16_384_000, 8_388_604, 8_388_604])
        },
        psi_cpu: Some(psi(1000, 0)),
        ..Reading::default()
    };
    assert_eq!(read("x86-pc"), expected);
}

#[test]
fn a_container_without_thermal_zones() {
    let expected = Reading {
        cores: cores("4-11", "4-11", Some(2)),
        memory: Memory {
            cgroup_current: Some(Bytes::mib(256)),
            cgroup_max: Some(Bytes::mib(2048)),
            ..memory([65_536_000, 32_768_000, 0, 0])
        },
        ..Reading::default()
    };
    assert_eq!(read("container"), expected);
}

#[test]
fn threads_on_each_board() {
    for (name, threads) in [
        ("pi-3b-plus", 4),
        ("pi-4", 4),
        ("pi-5-fan", 4),
        ("rk3588", 4),
        ("allwinner-h5", 4),
        ("allwinner-h618", 3),
        ("jetson-nano", 4),
        ("x86-pc", 2),
        ("container", 2),
    ] {
        assert_eq!(read(name).cores.threads_max(), Some(threads), "{name}");
    }
}

#[test]
fn a_board_says_which_files_are_in_use() {
    let root = board("pi-4");
    let sources = Sensors::new(root.path()).sources();
    let at = |path: &str| root.path().join(path);
    assert_eq!(
        sources.board.as_deref(),
        Some("Raspberry Pi 4 Model B Rev 1.4")
    );
    assert_eq!(
        sources.zones,
        [(
            "cpu-thermal".to_owned(),
            at("sys/class/thermal/thermal_zone0")
        )]
    );
    assert_eq!(
        sources.firmware,
        [
            at("sys/class/hwmon/hwmon1/in0_lcrit_alarm"),
            at("sys/devices/platform/soc/soc:firmware/get_throttled")
        ]
    );
    assert_eq!(
        sources.firmware_config,
        Some(at("boot/firmware/config.txt"))
    );
    assert_eq!(
        sources.frequency,
        [at("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq")]
    );
    assert_eq!(sources.memory, [at("proc/meminfo")]);
    assert_eq!((sources.psi_memory, sources.psi_cpu), (None, None));
}

/// Every tree must have a test and a comment on the source of its facts.
#[test]
fn every_board_has_a_test_and_sources() {
    let tests = fs::read_to_string(folder().with_extension("rs")).unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(tests.contains(&format!("read(\"{name}\")")), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        for part in ["# Sources:\n", "\n# Assumed: "] {
            assert!(text.contains(part), "{name}: {part:?}");
        }
    }
}
