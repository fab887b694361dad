//! The memory state, from `MemAvailable`, stalls, and the system's own warnings.

use std::time::Duration;

use hearth_proto::units::Permille;

use super::{Memory, Now};

/// The board's memory state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryState {
    /// Enough memory.
    #[default]
    Normal,
    /// Below 15 % available, or tasks stall: the prefix cache is freed.
    Moderate,
    /// Below 12 % available, or all tasks stall: one request at a time; after a minute new
    /// ones are refused.
    Critical,
    /// Below 7 % available: the model is unloaded.
    Emergency,
}

impl MemoryState {
    /// All states, the best first.
    pub const ALL: [Self; 4] = [
        Self::Normal,
        Self::Moderate,
        Self::Critical,
        Self::Emergency,
    ];

    /// The name on D-Bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Moderate => "moderate",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }

    /// Its effect on the service, as text.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Normal => "enough again",
            Self::Moderate => "memory is short: finished prompts are no longer cached in memory",
            Self::Critical => "memory is very short: one request at a time",
            Self::Emergency => "no memory is left: the model is unloaded",
        }
    }

    /// The next better state.
    fn better(self) -> Self {
        match self {
            Self::Normal | Self::Moderate => Self::Normal,
            Self::Critical => Self::Moderate,
            Self::Emergency => Self::Critical,
        }
    }
}

/// `MemAvailable` as a share of `MemTotal` below which a state applies
/// (docs/governor.md).
const AVAILABLE: [(MemoryState, Permille); 3] = [
    (MemoryState::Emergency, Permille(70)),
    (MemoryState::Critical, Permille(120)),
    (MemoryState::Moderate, Permille(150)),
];
/// Share of time in which tasks wait for memory that counts as a stall: systemd's default,
/// 200 ms in 2 s (systemd.resource-control(5), `MemoryPressureThresholdSec=`).
const STALLED: Permille = Permille(100);
/// How long a warning of the system counts: the window of the kernel's `avg10`, in which
/// the same stall would be visible.
const WARNING: Duration = Duration::from_secs(10);
/// A state is left for the next better one after this long.
const DWELL_BETTER: Duration = Duration::from_mins(1);
/// And only if this much more, in permille, is available than the state's threshold.
const MARGIN: u16 = 50;
/// After this long in `Critical`, what was freed has not helped.
const PATIENCE: Duration = Duration::from_mins(1);

/// The state machine: worse at once, better by one state per minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Pressure {
    state: MemoryState,
    /// When it entered this state.
    since: Now,
    /// Since when the readings have allowed a better state.
    calm_since: Option<Now>,
    warned: Option<Now>,
}

impl Pressure {
    /// The system has reported that memory is short.
    pub(super) fn warn(&mut self, now: Now) {
        self.warned = Some(now);
    }

    pub(super) fn observe(&mut self, now: Now, memory: &Memory) -> MemoryState {
        let wanted = self.classify(now, memory, 0);
        if wanted > self.state {
            self.enter(now, wanted);
        } else if self.classify(now, memory, MARGIN) < self.state {
            let since = *self.calm_since.get_or_insert(now);
            if now.saturating_sub(since) >= DWELL_BETTER {
                self.enter(now, self.state.better());
            }
        } else {
            self.calm_since = None;
        }
        self.state
    }

    /// Whether new requests are refused: there is no memory for a model, or freeing what can
    /// be freed did not help.
    pub(super) fn refuses(&self, now: Now) -> bool {
        match self.state {
            MemoryState::Emergency => true,
            MemoryState::Critical => now.saturating_sub(self.since) >= PATIENCE,
            MemoryState::Normal | MemoryState::Moderate => false,
        }
    }

    fn enter(&mut self, now: Now, state: MemoryState) {
        self.state = state;
        self.since = now;
        self.calm_since = None;
    }

    /// The state for the reading, with thresholds raised by `margin`.
    fn classify(&self, now: Now, memory: &Memory, margin: u16) -> MemoryState {
        let share = available_share(memory);
        let by_share = AVAILABLE
            .into_iter()
            .find(|(_, below)| share.is_some_and(|share| share.0 < below.0 + margin))
            .map_or(MemoryState::Normal, |(state, _)| state);
        let psi = memory.psi.unwrap_or_default();
        let by_stalls = if psi.full_avg10 >= STALLED {
            MemoryState::Critical
        } else if psi.some_avg10 >= STALLED {
            MemoryState::Moderate
        } else {
            MemoryState::Normal
        };
        let is_warned = |at: Now| now.saturating_sub(at) < WARNING;
        let by_warning = if self.warned.is_some_and(is_warned) {
            MemoryState::Moderate
        } else {
            MemoryState::Normal
        };
        by_share.max(by_stalls).max(by_warning)
    }
}

/// `None` if the kernel does not report it.
pub(super) fn available_share(memory: &Memory) -> Option<Permille> {
    let (total, available) = (memory.total?, memory.available?);
    let share = u128::from(available.0) * 1000 / u128::from(total.0.max(1));
    Some(Permille(u16::try_from(share).unwrap_or(1000).min(1000)))
}

#[cfg(test)]
mod tests {
    use hearth_proto::units::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::governor::Psi;

    fn memory(permille: u64) -> Memory {
        Memory {
            total: Some(Bytes(4_000_000)),
            available: Some(Bytes(4_000 * permille)),
            ..Memory::default()
        }
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn memory_states_follow_the_available_share() {
        for (permille, state) in [
            (500, MemoryState::Normal),
            (150, MemoryState::Normal),
            (149, MemoryState::Moderate),
            (119, MemoryState::Critical),
            (69, MemoryState::Emergency),
            (0, MemoryState::Emergency),
        ] {
            let mut pressure = Pressure::default();
            assert_eq!(pressure.observe(at(0), &memory(permille)), state);
        }
        let mut pressure = Pressure::default();
        let unknown = pressure.observe(at(0), &Memory::default());
        assert_eq!(unknown, MemoryState::Normal);
    }

    #[test]
    fn the_state_worsens_at_once_and_improves_once_a_minute() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.observe(at(0), &memory(50)), MemoryState::Emergency);
        let states: Vec<MemoryState> = (1..=200)
            .map(|s| pressure.observe(at(s), &memory(600)))
            .collect();
        let changes: Vec<(usize, MemoryState)> = (1..states.len())
            .filter(|n| states[*n] != states[n - 1])
            .map(|n| (n + 1, states[n]))
            .collect();
        assert_eq!(
            changes,
            [
                (61, MemoryState::Critical),
                (122, MemoryState::Moderate),
                (183, MemoryState::Normal),
            ]
        );
    }

    #[test]
    fn the_state_improves_only_beyond_a_margin() {
        let mut pressure = Pressure::default();
        pressure.observe(at(0), &memory(140));
        for s in 1..300 {
            let state = pressure.observe(at(s), &memory(190));
            assert_eq!(state, MemoryState::Moderate);
        }
        // Nor does a short increase.
        for s in 300..600 {
            let permille = if s % 50 == 0 { 190 } else { 400 };
            let state = pressure.observe(at(s), &memory(permille));
            assert_eq!(state, MemoryState::Moderate);
        }
    }

    #[test]
    fn stalls_and_warnings_count_with_memory_left() {
        let stalled = |some, full| Memory {
            psi: Some(Psi {
                some_avg10: Permille(some),
                full_avg10: Permille(full),
            }),
            ..memory(500)
        };
        for (some, full, state) in [
            (99, 0, MemoryState::Normal),
            (100, 0, MemoryState::Moderate),
            (300, 100, MemoryState::Critical),
        ] {
            let mut pressure = Pressure::default();
            assert_eq!(pressure.observe(at(0), &stalled(some, full)), state);
        }
        let mut pressure = Pressure::default();
        pressure.warn(at(5));
        let warned = pressure.observe(at(5), &memory(500));
        assert_eq!(warned, MemoryState::Moderate);
        pressure.observe(at(20), &memory(500));
        assert_eq!(pressure.observe(at(80), &memory(500)), MemoryState::Normal);
    }

    #[test]
    fn new_work_is_refused_if_releasing_memory_did_not_help() {
        let mut pressure = Pressure::default();
        pressure.observe(at(0), &memory(100));
        assert!(!pressure.refuses(at(59)));
        assert!(pressure.refuses(at(60)));
        pressure.observe(at(61), &memory(10));
        assert!(pressure.refuses(at(61)));
        for s in 62..400 {
            pressure.observe(at(s), &memory(900));
        }
        assert!(!pressure.refuses(at(400)));
    }

    proptest! {
        /// For any readings: never better than the memory is, and one state at a time.
        #[test]
        fn the_state_is_never_better_than_the_reading(shares in prop::collection::vec(0u64..1000, 1..300)) {
            let mut pressure = Pressure::default();
            let mut last = MemoryState::Normal;
            for (s, share) in (0..).zip(shares) {
                let alone = Pressure::default().observe(at(s), &memory(share));
                let state = pressure.observe(at(s), &memory(share));
                prop_assert!(state >= alone);
                prop_assert!(state >= last || state == last.better());
                last = state;
            }
        }
    }
}
