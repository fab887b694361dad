//! The state of the board at one moment, as read by the sensors.

use crate::units::{Bytes, CpuSet, MilliCelsius, Permille};

/// One reading of the board. A value that the board does not have, or that could not be
/// read this time, is `None` (or empty).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Hottest CPU or `SoC` zone.
    pub temperature: Option<MilliCelsius>,
    /// Lowest passive trip point at or above 65 °C of those zones. The trip point of the
    /// currently hottest zone would change with every change of that zone.
    pub passive_trip: Option<MilliCelsius>,
    /// Their lowest critical trip point.
    pub critical_trip: Option<MilliCelsius>,
    /// Temperature at which the firmware throttles the cores, on boards where it does: on a
    /// Raspberry Pi `temp_limit` of config.txt (85 °C by default).
    pub firmware_limit: Option<MilliCelsius>,
    /// Power and throttling as the firmware reports them now.
    pub firmware: Option<Firmware>,
    /// Highest frequency allowed now, as a share of the highest supported one; the kernel or
    /// firmware lowers it when the board is hot, or on request.
    pub frequency_cap: Option<Permille>,
    /// Cores to compute on.
    pub cores: Cores,
    /// Memory usage.
    pub memory: Memory,
    /// Stalls due to CPU contention in the whole system.
    pub psi_cpu: Option<Psi>,
}

/// Power and throttling as a Raspberry Pi's firmware reports them: bits 0 to 3 of
/// `get_throttled` (Raspberry Pi documentation, "vcgencmd").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are bits")]
pub struct Firmware {
    /// The supply voltage is below 4.63 V.
    pub under_voltage: bool,
    /// The Arm frequency is capped.
    pub capped: bool,
    /// The firmware is throttling.
    pub throttled: bool,
    /// The soft temperature limit is active (Pi 3B+).
    pub soft_limit: bool,
}

/// The cores that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The biggest cores that are online and allowed; empty where that is unknown.
    pub big: CpuSet,
    /// All cores that are online and allowed; empty where that is unknown.
    pub allowed: CpuSet,
    /// CPU time per time that the cgroup may use, in whole cores rounded down, at
    /// least 1; `None` without a quota.
    pub quota: Option<u32>,
}

impl Cores {
    /// Useful number of threads: one for each big core, within the quota. `None` if the cores
    /// are unknown.
    pub fn threads_max(&self) -> Option<u32> {
        let cores = (!self.big.is_empty()).then(|| self.big.len())?;
        Some(cores.min(self.quota.unwrap_or(cores)).max(1))
    }
}

/// Memory usage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// `MemTotal`.
    pub total: Option<Bytes>,
    /// `MemAvailable`.
    pub available: Option<Bytes>,
    /// `SwapTotal`, zram included.
    pub swap_total: Option<Bytes>,
    /// `SwapFree`.
    pub swap_free: Option<Bytes>,
    /// Memory used by the service's own cgroup (`memory.current`), without page cache.
    pub cgroup_current: Option<Bytes>,
    /// The smallest of `memory.max` and `memory.high` of that cgroup and its parents;
    /// `None` without a limit, or without a memory controller.
    pub cgroup_max: Option<Bytes>,
    /// Stalls due to memory shortage: of the own cgroup if available, else of the system.
    pub psi: Option<Psi>,
}

/// Pressure Stall Information (kernel: Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Psi {
    /// Share of the last 10 s in which some task waited.
    pub some_avg10: Permille,
    /// Share of the last 10 s in which all tasks waited; 0 for CPU.
    pub full_avg10: Permille,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_count_is_the_big_cores_within_the_quota() {
        for (big, quota, threads) in [
            ("4-7", None, Some(4)),
            ("4-7", Some(2), Some(2)),
            ("4-7", Some(9), Some(4)),
            ("4-7", Some(0), Some(1)),
            ("", Some(3), None),
        ] {
            let cores = Cores {
                big: CpuSet::parse(big).unwrap(),
                allowed: CpuSet::parse("0-7").unwrap(),
                quota,
            };
            assert_eq!(cores.threads_max(), threads, "{big:?} {quota:?}");
        }
    }
}
