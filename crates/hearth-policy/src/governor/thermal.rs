//! The thermal state, with hysteresis and dwell (docs/governor.md).

use std::time::Duration;

use hearth_proto::units::MilliCelsius;

use super::Now;
use super::limit::Bounds;

/// How hot the board is, relative to its own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThermalState {
    /// More than 15 K below the limit.
    #[default]
    Cool,
    /// Below the limit by 5 to 15 K.
    Warm,
    /// Within 5 K of the limit.
    Hot,
    /// Within 1.5 K of the limit.
    Limit,
    /// 3 K above the limit (7 K under `throughput`), or 5 K below critical.
    Emergency,
}

impl ThermalState {
    /// All states, the coolest first.
    pub const ALL: [Self; 5] = [
        Self::Cool,
        Self::Warm,
        Self::Hot,
        Self::Limit,
        Self::Emergency,
    ];

    /// The name on D-Bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cool => "cool",
            Self::Warm => "warm",
            Self::Hot => "hot",
            Self::Limit => "limit",
            Self::Emergency => "emergency",
        }
    }
}

/// Readings must ask for a worse state for this long before it is entered.
const DWELL_WORSE: Duration = Duration::from_secs(5);
/// Readings must ask for a better state for this long before it is entered.
const DWELL_BETTER: Duration = Duration::from_secs(20);
/// After this long without a temperature only the current one counts: an idle service
/// reads the sensors only on request.
const GAP: Duration = Duration::from_secs(30);
/// How far below a threshold the temperature must fall to leave its state.
const HYSTERESIS_MILLI_K: i32 = 3_000;
/// The state machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Thermal {
    state: ThermalState,
    /// When the last temperature was taken.
    seen: Option<Now>,
    /// The state that the readings ask for, and since when.
    wanted: Option<(ThermalState, Now)>,
}

impl Thermal {
    /// Takes a temperature; `slowed`: firmware or kernel throttle the cores because of heat.
    pub(super) fn observe(
        &mut self,
        now: Now,
        temperature: MilliCelsius,
        bounds: Bounds,
        slowed: bool,
    ) -> ThermalState {
        let is_known = |at: Now| now.saturating_sub(at) <= GAP;
        let goes_on = self.seen.replace(now).is_some_and(is_known);
        let mut wanted = self.classify(temperature, bounds, goes_on);
        if slowed {
            wanted = wanted.max(ThermalState::Limit);
        }
        if !goes_on {
            self.state = wanted;
        }
        if wanted == self.state {
            self.wanted = None;
            return self.state;
        }
        let worse = wanted > self.state;
        let since = match self.wanted {
            // The direction counts, not the exact target: a rise through two states
            // within one dwell time ends in the last.
            Some((before, since)) if (before > self.state) == worse => since,
            _ => now,
        };
        self.wanted = Some((wanted, since));
        let dwell = if worse { DWELL_WORSE } else { DWELL_BETTER };
        if now.saturating_sub(since) >= dwell {
            self.state = wanted;
            self.wanted = None;
        }
        self.state
    }

    /// The current state.
    pub(super) fn state(&self) -> ThermalState {
        self.state
    }

    /// Leaves an emergency for the state below it: without a sensor its end cannot be observed.
    pub(super) fn leave_emergency(&mut self) {
        self.state = self.state.min(ThermalState::Limit);
    }

    fn classify(&self, t: MilliCelsius, bounds: Bounds, goes_on: bool) -> ThermalState {
        let limit = bounds.limit.0;
        let thresholds = [
            (ThermalState::Emergency, bounds.emergency.0),
            (ThermalState::Limit, limit - 1_500),
            (ThermalState::Hot, limit - 5_000),
            (ThermalState::Warm, limit - 15_000),
        ];
        for (state, threshold) in thresholds {
            let threshold = if goes_on && self.state >= state {
                threshold - HYSTERESIS_MILLI_K
            } else {
                threshold
            };
            if t.0 >= threshold {
                return state;
            }
        }
        ThermalState::Cool
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        limit: MilliCelsius(85_000),
        emergency: MilliCelsius(88_000),
    };

    fn see(thermal: &mut Thermal, s: u64, milli: i32, slowed: bool) -> ThermalState {
        thermal.observe(Duration::from_secs(s), MilliCelsius(milli), BOUNDS, slowed)
    }

    #[test]
    fn thresholds_follow_the_limit() {
        for (celsius, state) in [
            (60, ThermalState::Cool),
            (72, ThermalState::Warm),
            (81, ThermalState::Hot),
            (84, ThermalState::Limit),
            (89, ThermalState::Emergency),
        ] {
            let seen = see(&mut Thermal::default(), 0, celsius * 1000, false);
            assert_eq!(seen, state, "{celsius}");
        }
    }

    #[test]
    fn a_single_hot_sample_does_not_change_the_state() {
        let mut thermal = Thermal::default();
        see(&mut thermal, 0, 50_000, false);
        assert_eq!(see(&mut thermal, 1, 95_000, false), ThermalState::Cool);
        assert_eq!(see(&mut thermal, 2, 50_000, false), ThermalState::Cool);
    }

    #[test]
    fn after_a_gap_only_the_new_sample_counts() {
        for (then, now) in [
            (50_000, ThermalState::Cool),
            (95_000, ThermalState::Emergency),
        ] {
            let mut thermal = Thermal::default();
            see(&mut thermal, 0, 145_000 - then, false);
            assert_eq!(see(&mut thermal, 3600, then, false), now);
        }
    }

    #[test]
    fn throttled_cores_raise_the_state_after_the_dwell_time() {
        let mut thermal = Thermal::default();
        let states: Vec<ThermalState> = (0..8)
            .map(|s| see(&mut thermal, s, 75_000, s > 0))
            .collect();
        assert_eq!(states[5], ThermalState::Warm);
        assert_eq!(states[6], ThermalState::Limit);
        // Bits that come and go do not change the state: a better one needs 20 s without them.
        for s in 8..200 {
            assert_eq!(
                see(&mut thermal, s, 75_000, s % 10 == 0),
                ThermalState::Limit
            );
        }
    }

    proptest! {
        /// Noise smaller than the hysteresis never makes the state flap.
        #[test]
        fn noise_within_the_hysteresis_changes_no_state(base in 40_000i32..100_000, noise in prop::collection::vec(-1_400i32..1_400, 200)) {
            let mut thermal = Thermal::default();
            let mut changes = 0;
            let mut last = None;
            for (s, n) in noise.iter().enumerate() {
                let state = see(&mut thermal, s as u64, base + n, false);
                changes += u32::from(last.is_some_and(|l| l != state));
                last = Some(state);
            }
            prop_assert!(changes <= 2, "{changes} changes");
        }
    }
}
