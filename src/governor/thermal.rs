//! The thermal state, with hysteresis and dwell (docs/design.md, section 6).

use std::time::Duration;

use super::{Now, Reading};
use crate::units::MilliCelsius;

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
    /// 3 K above the limit, or 10 K below critical.
    Emergency,
}

impl ThermalState {
    /// The word on the bus.
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

/// A state must have been worse for this long before it counts.
const DWELL_WORSE: Duration = Duration::from_secs(5);
/// A state must have been better for this long before it counts.
const DWELL_BETTER: Duration = Duration::from_secs(20);
/// How far below a threshold the temperature must fall to leave its state.
const HYSTERESIS_MILLI_K: i32 = 3_000;
/// The limit where the board names no passive trip point: 15 K below critical,
/// at most this.
const LIMIT_DEFAULT: MilliCelsius = MilliCelsius(85_000);

/// The state machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Thermal {
    state: ThermalState,
    started: bool,
    /// The state that the readings ask for, and since when.
    wanted: Option<(ThermalState, Now)>,
}

impl Thermal {
    pub(super) fn observe(&mut self, now: Now, reading: &Reading) -> ThermalState {
        let Some(temperature) = reading.temperature else {
            return self.state;
        };
        let limit = limit(reading);
        let wanted = self.classify(temperature, limit, reading.critical_trip);
        if !self.started {
            self.started = true;
            self.state = wanted;
        }
        if wanted == self.state {
            self.wanted = None;
            return self.state;
        }
        let worse = wanted > self.state;
        let since = match self.wanted {
            // The direction counts, not the exact target: a rise through two
            // states in one dwell goes to the last.
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

    fn classify(
        &self,
        t: MilliCelsius,
        limit: MilliCelsius,
        critical: Option<MilliCelsius>,
    ) -> ThermalState {
        let emergency = critical.map_or(limit.0 + 3_000, |c| (limit.0 + 3_000).min(c.0 - 10_000));
        let thresholds = [
            (ThermalState::Emergency, emergency),
            (ThermalState::Limit, limit.0 - 1_500),
            (ThermalState::Hot, limit.0 - 5_000),
            (ThermalState::Warm, limit.0 - 15_000),
        ];
        for (state, threshold) in thresholds {
            let threshold = if self.started && self.state >= state {
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

fn limit(reading: &Reading) -> MilliCelsius {
    if let Some(trip) = reading.passive_trip {
        return trip;
    }
    let below_critical = reading
        .critical_trip
        .map_or(LIMIT_DEFAULT, |c| MilliCelsius(c.0 - 15_000));
    below_critical.min(LIMIT_DEFAULT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(milli: i32) -> Reading {
        Reading {
            temperature: Some(MilliCelsius(milli)),
            critical_trip: Some(MilliCelsius(110_000)),
            ..Reading::default()
        }
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
            let mut thermal = Thermal::default();
            assert_eq!(
                thermal.observe(Duration::ZERO, &reading(celsius * 1000)),
                state
            );
        }
    }

    #[test]
    fn one_hot_sample_changes_nothing() {
        let mut thermal = Thermal::default();
        thermal.observe(Duration::ZERO, &reading(50_000));
        let hot = thermal.observe(Duration::from_secs(1), &reading(95_000));
        assert_eq!(hot, ThermalState::Cool);
        let after = thermal.observe(Duration::from_secs(2), &reading(50_000));
        assert_eq!(after, ThermalState::Cool);
    }

    #[test]
    fn a_lost_sensor_keeps_the_state() {
        let mut thermal = Thermal::default();
        thermal.observe(Duration::ZERO, &reading(84_000));
        let lost = thermal.observe(Duration::from_secs(9), &Reading::default());
        assert_eq!(lost, ThermalState::Limit);
    }

    proptest! {
        /// Noise smaller than the hysteresis never makes the state flap.
        #[test]
        fn noise_within_hysteresis_settles(base in 40_000i32..100_000, noise in prop::collection::vec(-1_400i32..1_400, 200)) {
            let mut thermal = Thermal::default();
            let mut changes = 0;
            let mut last = None;
            for (s, n) in noise.iter().enumerate() {
                let state = thermal.observe(Duration::from_secs(s as u64), &reading(base + n));
                changes += u32::from(last.is_some_and(|l| l != state));
                last = Some(state);
            }
            prop_assert!(changes <= 2, "{changes} changes");
        }
    }
}
