//! The memory state from `MemAvailable`.

use super::Reading;

/// How full the board's memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryState {
    /// Enough.
    #[default]
    Normal,
    /// Below 15 % available.
    Moderate,
    /// Below 12 % available.
    Critical,
    /// Below 7 % available.
    Emergency,
}

impl MemoryState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Moderate => "moderate",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }
}

/// Classifies one reading; the shares are those of docs/design.md, section 6.
pub(super) fn classify(reading: &Reading) -> MemoryState {
    let (Some(total), Some(available)) = (reading.memory.total, reading.memory.available) else {
        return MemoryState::Normal;
    };
    if total.0 == 0 {
        return MemoryState::Normal;
    }
    match u128::from(available.0) * 100 / u128::from(total.0) {
        0..7 => MemoryState::Emergency,
        7..12 => MemoryState::Critical,
        12..15 => MemoryState::Moderate,
        _ => MemoryState::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governor::Memory;
    use crate::units::Bytes;

    #[test]
    fn shares_of_a_4_gib_board() {
        for (mib, state) in [
            (2048, MemoryState::Normal),
            (600, MemoryState::Moderate),
            (400, MemoryState::Critical),
            (200, MemoryState::Emergency),
        ] {
            let reading = Reading {
                memory: Memory {
                    total: Some(Bytes::mib(4096)),
                    available: Some(Bytes::mib(mib)),
                    ..Memory::default()
                },
                ..Reading::default()
            };
            assert_eq!(classify(&reading), state, "{mib} MiB");
        }
    }
}
