//! From temperature to a share of the compute power: a PI controller (docs/governor.md).

use std::time::Duration;

use hearth_proto::units::MilliCelsius;

use super::Now;

/// Smallest share allowed on a hot board.
pub(super) const SHARE_MIN: f64 = 0.05;
/// Share per kelvin below the set point.
const KP: f64 = 0.06;
/// Integral time: time in which a constant error doubles the response, in seconds.
const TI_S: f64 = 120.0;
/// Time constant of the temperature's average, in seconds.
const TAU_S: f64 = 5.0;
/// A longer gap between samples means a suspended machine: the old average is discarded.
const SILENCE: Duration = Duration::from_secs(30);

/// The state of the controller.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// The time of the last sample and the average at that time, in °C.
    last: Option<(Now, f64)>,
    integral: f64,
    proportional: f64,
}

/// The controller's inputs besides the temperature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// The target temperature, in °C.
    pub(super) set_point: f64,
    /// Below this temperature full power is allowed, in °C.
    pub(super) full_below: f64,
    /// The largest share that the current threads can use: saturation.
    pub(super) top: f64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            last: None,
            integral: 1.0,
            proportional: 0.0,
        }
    }
}

impl Control {
    /// Takes a temperature sample; the intervals may vary.
    pub(super) fn observe(&mut self, now: Now, temperature: MilliCelsius, aim: Aim) {
        let celsius = temperature.celsius();
        let (dt, average) = match self.last {
            Some((before, average)) if now.saturating_sub(before) < SILENCE => {
                let dt = now.saturating_sub(before).as_secs_f64();
                (
                    dt,
                    average + (celsius - average) * (1.0 - (-dt / TAU_S).exp()),
                )
            }
            _ => (0.0, celsius),
        };
        self.last = Some((now, average));
        let error = aim.set_point - average;
        self.proportional = KP * error;
        if average < aim.full_below {
            self.integral = 1.0;
            return;
        }
        self.integral += self.proportional * dt / TI_S;
        // Anti-windup: the integral does not accumulate beyond saturation, in either direction.
        let most = aim.top - self.proportional.min(0.0);
        let least = SHARE_MIN - self.proportional.max(0.0);
        self.integral = self.integral.min(most).max(least);
    }

    /// The share of the compute power that the temperature allows, before any cap.
    pub(super) fn share(&self) -> f64 {
        (self.proportional + self.integral).clamp(SHARE_MIN, 1.0)
    }

    /// The averaged temperature in °C; `None` before the first sample.
    pub(super) fn average(&self) -> Option<f64> {
        self.last.map(|(_, average)| average)
    }

    /// Continues from this share, independent of the current error.
    pub(super) fn rebase(&mut self, share: f64) {
        self.integral = share - self.proportional;
    }

    /// Limits the integral to this share.
    pub(super) fn lower_to(&mut self, share: f64) {
        self.integral = self.integral.min(share);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AIM: Aim = Aim {
        set_point: 78.5,
        full_below: 65.0,
        top: 1.0,
    };

    fn hold(control: &mut Control, from_ms: u64, every_ms: u64, for_ms: u64, milli: i32) {
        for ms in (from_ms..from_ms + for_ms).step_by(usize::try_from(every_ms).unwrap()) {
            control.observe(Duration::from_millis(ms), MilliCelsius(milli), AIM);
        }
    }

    #[test]
    fn the_share_is_full_below_the_band_and_falls_above_it() {
        let mut control = Control::default();
        hold(&mut control, 0, 1000, 60_000, 60_000);
        assert!((control.share() - 1.0).abs() < 1e-9);
        hold(&mut control, 60_000, 1000, 30_000, 80_500);
        // 2 K too hot: 0.12 by the proportional part, 0.03 by the integral.
        assert!(
            (0.83..0.88).contains(&control.share()),
            "{}",
            control.share()
        );
    }

    #[test]
    fn the_sample_interval_hardly_changes_the_result() {
        let shares: Vec<f64> = [500, 1000, 2000, 5000]
            .into_iter()
            .map(|every| {
                let mut control = Control::default();
                hold(&mut control, 0, every, 60_000, 78_500);
                hold(&mut control, 60_000, every, 120_000, 81_000);
                control.share()
            })
            .collect();
        for share in &shares {
            assert!((share - shares[0]).abs() < 0.02, "{shares:?}");
        }
    }

    #[test]
    fn the_integral_does_not_wind_up() {
        let mut control = Control::default();
        hold(&mut control, 0, 1000, 3_600_000, 95_000);
        assert!((control.share() - SHARE_MIN).abs() < 1e-9);
        // The effect of an hour above the set point is gone after two minutes below it.
        hold(&mut control, 3_600_000, 1000, 120_000, 70_000);
        assert!(control.share() > 0.9, "{}", control.share());
    }

    #[test]
    fn the_controller_restarts_after_a_suspend() {
        let mut control = Control::default();
        hold(&mut control, 0, 1000, 10_000, 79_000);
        control.observe(Duration::from_hours(2), MilliCelsius(40_000), AIM);
        assert_eq!(control.average(), Some(40.0));
    }

    proptest! {
        #[test]
        fn the_share_stays_in_range(samples in prop::collection::vec((0u64..40_000, -40_000i32..200_000, 0.1f64..1.0), 100)) {
            let mut control = Control::default();
            let mut now = Duration::ZERO;
            for (ms, milli, top) in samples {
                now += Duration::from_millis(ms);
                control.observe(now, MilliCelsius(milli), Aim { top, ..AIM });
                prop_assert!((SHARE_MIN..=1.0).contains(&control.share()));
            }
        }
    }
}
