//! Newtypes for quantities, so that the unit is part of the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A temperature in thousandths of a degree Celsius, the unit of
/// `thermal_zone*/temp` (kernel: Documentation/ABI/testing/sysfs-class-thermal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MilliCelsius(pub i32);

impl MilliCelsius {
    /// The same temperature in degrees, for display and D-Bus.
    pub fn celsius(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl fmt::Display for MilliCelsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} °C", self.celsius())
    }
}

/// A size in bytes; `Display` writes it with a unit (KiB, MiB, GiB).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "only for people's eyes")]
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        write!(f, "{value:.1} {unit}")
    }
}

/// A share in thousandths, 0 to 1000; used for duty cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permille(pub u16);

impl Permille {
    /// The whole: 1000 ‰.
    pub const FULL: Self = Self(1000);
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

/// A set of CPUs by number, up to [`Self::MAX`]; empty means "not known", never "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuSet(u128);

impl CpuSet {
    /// CPUs with higher numbers cannot be in a set.
    pub const MAX: u32 = 128;

    /// Parses the kernel's list format, `0-3,6` (cpuset(7)); numbers from [`Self::MAX`] on
    /// are ignored. `None` for anything else.
    pub fn parse(list: &str) -> Option<Self> {
        let mut set = Self::default();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first > last {
                return None;
            }
            (first..=last.min(Self::MAX - 1)).for_each(|cpu| set.insert(cpu));
        }
        Some(set)
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: u32) {
        if cpu < Self::MAX {
            self.0 |= 1 << cpu;
        }
    }

    /// Whether it contains this CPU.
    pub fn contains(self, cpu: u32) -> bool {
        cpu < Self::MAX && self.0 & (1 << cpu) != 0
    }

    /// The intersection of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Number of CPUs.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether nothing is known.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The CPU numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..Self::MAX).filter(move |cpu| self.contains(*cpu))
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::default();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_have_the_kernels_format() {
        let set = CpuSet::parse("0-2,5\n").unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(set.len(), 4);
        assert!(CpuSet::parse("").unwrap().is_empty());
        assert_eq!(CpuSet::parse("126-4000000000").unwrap().len(), 2);
        for bad in ["3-1", "a", "1-", "-1", "0x3"] {
            assert_eq!(CpuSet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn quantities_are_shown_with_their_units() {
        assert_eq!(MilliCelsius(48_312).to_string(), "48.3 °C");
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes::mib(330).to_string(), "330.0 MiB");
        assert_eq!(Permille(955).to_string(), "95.5 %");
    }
}
