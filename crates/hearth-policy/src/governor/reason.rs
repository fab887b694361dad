//! Why the limits are below full, as a line of text that changes only when the situation
//! has changed significantly.

use std::time::Duration;

use hearth_proto::units::MilliCelsius;

use super::{Now, Policy};

/// The duty is shown in steps of this many percent.
const STEP_PERCENT: i32 = 5;
/// The shown duty is updated when it differs from the averaged one by this many permille.
const STALE_PERMILLE: f64 = 75.0;
/// Time constant of that average in seconds: a sensor's step changes the duty, but is not
/// worth reporting.
const TAU_S: f64 = 30.0;
/// Cores that were slowed within this time still count as slowed.
const SLOWED_FOR: Duration = Duration::from_mins(1);

/// What limits the board's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Far above the limit: nothing is computed.
    Emergency,
    /// The supply voltage is too low.
    UnderVoltage,
    /// The temperature cannot be read any more.
    SensorLost,
    /// The board is at its limit.
    Heat,
    /// The policy `quiet` limits the power.
    Quiet,
    /// Firmware or kernel slow the cores.
    Slowed,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 6] = [
        Self::Emergency,
        Self::UnderVoltage,
        Self::SensorLost,
        Self::Heat,
        Self::Quiet,
        Self::Slowed,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::UnderVoltage => "under_voltage",
            Self::SensorLost => "sensor_lost",
            Self::Heat => "heat",
            Self::Quiet => "quiet",
            Self::Slowed => "slowed",
        }
    }
}

/// The input for a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) cause: Option<Cause>,
    /// Whether firmware or kernel slow the cores.
    pub(super) slowed: bool,
    pub(super) policy: Policy,
    pub(super) temperature: Option<MilliCelsius>,
    pub(super) limit: MilliCelsius,
    pub(super) threads: u32,
    pub(super) threads_max: u32,
    pub(super) duty_permille: i32,
    pub(super) retry_s: u64,
}

/// The line shown last, and its facts.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason {
    key: Option<(Option<Cause>, u32, i32)>,
    /// The averaged duty in permille, and the time of the last update.
    duty: Option<(Now, f64)>,
    duty_percent: i32,
    slowed_at: Option<Now>,
    text: String,
}

impl Reason {
    /// The cause in the line shown last.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.key.and_then(|(cause, ..)| cause)
    }

    /// The line for these facts; it contains the temperature at its last change.
    pub(super) fn update(&mut self, now: Now, facts: &Facts) -> &str {
        let real = f64::from(facts.duty_permille);
        let is_same = matches!(self.key, Some((_, threads, _)) if threads == facts.threads);
        let duty = match self.duty.filter(|_| is_same) {
            Some((before, duty)) => {
                let dt = now.saturating_sub(before).as_secs_f64();
                duty + (real - duty) * (1.0 - (-dt / TAU_S).exp())
            }
            None => real,
        };
        self.duty = Some((now, duty));
        let off = (duty - f64::from(self.duty_percent * 10)).abs();
        let is_full = self.duty_percent < 100 && duty > 990.0;
        if !is_same || is_full || off >= STALE_PERMILLE {
            #[expect(clippy::cast_possible_truncation, reason = "at most 1000")]
            let steps = (duty / 10.0 / f64::from(STEP_PERCENT)).round() as i32;
            self.duty_percent = (steps * STEP_PERCENT).clamp(STEP_PERCENT, 100);
        }
        if facts.slowed {
            self.slowed_at = Some(now);
        }
        let slowed = self
            .slowed_at
            .is_some_and(|at| now.saturating_sub(at) < SLOWED_FOR);
        // A duty that varies around 98 % is not worth reporting either.
        let is_full = facts.threads == facts.threads_max && self.duty_percent == 100;
        let cause = match facts.cause {
            Some(Cause::Heat | Cause::Quiet) | None if is_full => slowed.then_some(Cause::Slowed),
            cause => cause,
        };
        let key = (cause, facts.threads, self.duty_percent);
        if self.key != Some(key) {
            self.key = Some(key);
            self.text = cause.map_or_else(String::new, |cause| self.write(cause, facts));
        }
        &self.text
    }

    fn write(&self, cause: Cause, facts: &Facts) -> String {
        let heat = match facts.temperature {
            Some(t) => format!("{t}, limit {}", facts.limit),
            None => format!("limit {}", facts.limit),
        };
        let why = match cause {
            Cause::Emergency => {
                return format!(
                    "{heat}: too hot, paused until it cools; try again in {} s",
                    facts.retry_s
                );
            }
            Cause::UnderVoltage => {
                "the supply voltage is too low, use a better power supply or cable".to_owned()
            }
            Cause::SensorLost => "the temperature cannot be read any more".to_owned(),
            Cause::Quiet => match facts.policy {
                Policy::Quiet { power_percent } => {
                    format!("policy quiet, at most {power_percent} % of the computing power")
                }
                Policy::Throughput | Policy::Balanced => heat,
            },
            Cause::Heat => heat,
            Cause::Slowed => format!("{heat}: the board slows its cores by itself"),
        };
        let threads = (facts.threads < facts.threads_max)
            .then(|| format!("{} of {} threads", facts.threads, facts.threads_max));
        let duty = (self.duty_percent < 100)
            .then(|| format!("computing {} % of the time", self.duty_percent));
        let spent: Vec<String> = threads.into_iter().chain(duty).collect();
        if spent.is_empty() {
            why
        } else {
            format!("{why}: {}", spent.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        cause: Some(Cause::Heat),
        slowed: false,
        policy: Policy::Balanced,
        temperature: Some(MilliCelsius(80_200)),
        limit: MilliCelsius(80_000),
        threads: 3,
        threads_max: 4,
        duty_permille: 800,
        retry_s: 30,
    };

    #[test]
    fn reasons_name_the_measure_and_its_cause() {
        let quiet = Policy::Quiet { power_percent: 60 };
        for (facts, text) in [
            (
                FACTS,
                "80.2 °C, limit 80.0 °C: 3 of 4 threads, computing 80 % of the time",
            ),
            (
                Facts {
                    threads: 4,
                    duty_permille: 990,
                    slowed: true,
                    ..FACTS
                },
                "80.2 °C, limit 80.0 °C: the board slows its cores by itself",
            ),
            (
                Facts {
                    cause: Some(Cause::Emergency),
                    ..FACTS
                },
                "80.2 °C, limit 80.0 °C: too hot, paused until it cools; try again in 30 s",
            ),
            (
                Facts {
                    cause: Some(Cause::Quiet),
                    policy: quiet,
                    threads: 2,
                    duty_permille: 1000,
                    ..FACTS
                },
                "policy quiet, at most 60 % of the computing power: 2 of 4 threads",
            ),
            (
                Facts {
                    cause: Some(Cause::SensorLost),
                    threads_max: 3,
                    ..FACTS
                },
                "the temperature cannot be read any more: computing 80 % of the time",
            ),
            (
                Facts {
                    threads: 4,
                    duty_permille: 980,
                    ..FACTS
                },
                "",
            ),
        ] {
            assert_eq!(Reason::default().update(Duration::ZERO, &facts), text);
        }
    }

    #[test]
    fn small_changes_of_duty_and_temperature_are_not_reported() {
        let mut reason = Reason::default();
        let first = reason.update(Duration::ZERO, &FACTS).to_owned();
        let mut s = 0;
        let mut update = |facts: Facts| {
            s += 1;
            reason.update(Duration::from_secs(s), &facts).to_owned()
        };
        for n in 0..200 {
            let facts = Facts {
                duty_permille: if n % 8 < 4 { 730 } else { 860 },
                temperature: Some(MilliCelsius(80_000 + n * 10)),
                slowed: n % 9 == 0,
                ..FACTS
            };
            assert_eq!(update(facts), first);
        }
        let lower = Facts {
            duty_permille: 600,
            ..FACTS
        };
        let lines: Vec<String> = (0..200).map(|_| update(lower)).collect();
        let mut news = lines.clone();
        news.dedup();
        assert!(news.len() <= 4, "{news:?}");
        assert!(lines[199].ends_with("computing 60 % of the time"));
    }

    #[test]
    fn repeated_throttling_is_reported_once() {
        let mut reason = Reason::default();
        let lines: Vec<bool> = (0..400)
            .map(|s| {
                let facts = Facts {
                    threads: 4,
                    duty_permille: 1000,
                    slowed: s % 30 == 0 && s < 300,
                    ..FACTS
                };
                reason.update(Duration::from_secs(s), &facts).is_empty()
            })
            .collect();
        assert_eq!(lines.iter().filter(|empty| !**empty).count(), 330);
        assert!(lines.is_sorted());
    }
}
