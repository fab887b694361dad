//! Floor 0: newtypes for quantities, so that a unit is never a guess.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A temperature in thousandths of a degree Celsius, the unit of
/// `thermal_zone*/temp` (kernel: Documentation/ABI/testing/sysfs-class-thermal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MilliCelsius(pub i32);

impl MilliCelsius {
    /// The same temperature in degrees, for people and the bus.
    pub fn celsius(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl fmt::Display for MilliCelsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} °C", self.celsius())
    }
}

/// A size in bytes; `Display` writes it as people read it (KiB, MiB, GiB).
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_for_people() {
        assert_eq!(MilliCelsius(48_312).to_string(), "48.3 °C");
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes::mib(330).to_string(), "330.0 MiB");
        assert_eq!(Permille(955).to_string(), "95.5 %");
    }
}
