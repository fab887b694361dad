//! The memory that a model may take.

use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;

/// Reserve for everything else on the board: this much, or a share of the memory
/// (docs/governor.md).
const RESERVE: Bytes = Bytes::mib(256);
const RESERVE_PERCENT: u64 = 8;
/// Reserve within a cgroup's limit, for the daemon itself.
const CGROUP_RESERVE: Bytes = Bytes::mib(32);

/// The memory that a model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Free memory.
    pub free: Bytes,
    /// The part of it that must not be used.
    pub reserved: Bytes,
}

impl Budget {
    /// All of `memory`.
    pub fn all(memory: Bytes) -> Self {
        Self {
            free: memory,
            reserved: Bytes(0),
        }
    }

    /// What is left beside something that takes this much.
    #[must_use]
    pub fn without(self, bytes: Bytes) -> Self {
        Self {
            free: Bytes(self.free.0.saturating_sub(bytes.0)),
            ..self
        }
    }

    /// Bytes that a model may take.
    pub fn usable(self) -> Bytes {
        Bytes(self.free.0.saturating_sub(self.reserved.0))
    }
}

/// The smaller of the board's and the service cgroup's budget; `None` if neither is
/// known.
pub fn budget(memory: &Memory) -> Option<Budget> {
    let board = memory.available.map(|free| {
        let total = memory.total.map_or(0, |total| total.0);
        let share = total / 100 * RESERVE_PERCENT;
        Budget {
            free,
            reserved: Bytes(share.max(RESERVE.0)),
        }
    });
    let cgroup = memory.cgroup_max.map(|max| {
        let current = memory.cgroup_current.unwrap_or_default();
        Budget {
            free: Bytes(max.0.saturating_sub(current.0)),
            reserved: CGROUP_RESERVE,
        }
    });
    board.into_iter().chain(cgroup).min_by_key(|b| b.usable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_smaller_of_board_and_cgroup() {
        let mib = |n| Some(Bytes::mib(n));
        let usable = |memory: Memory| budget(&memory).map(|b| b.usable().0 >> 20);
        let board = Memory {
            total: mib(4000),
            available: mib(3000),
            ..Memory::default()
        };
        assert_eq!(usable(Memory::default()), None);
        assert_eq!(usable(board), Some(3000 - 320));
        let small = Memory {
            total: mib(1000),
            available: mib(200),
            ..Memory::default()
        };
        assert_eq!(usable(small), Some(0), "256 MiB stay free of a small board");
        let limited = Memory {
            cgroup_max: mib(1024),
            cgroup_current: mib(24),
            ..board
        };
        assert_eq!(usable(limited), Some(1000 - 32));
        let unused = Memory {
            cgroup_max: mib(8192),
            ..board
        };
        assert_eq!(usable(unused), Some(3000 - 320));
    }
}
