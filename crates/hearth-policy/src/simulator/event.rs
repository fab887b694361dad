//! Events during a simulation.

use std::str::FromStr;
use std::time::Duration;

/// An event at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When it happens.
    pub at: Duration,
    /// The kind of event.
    pub what: What,
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// The fan stops.
    FanFails,
    /// The fan works again.
    FanReturns,
    /// The temperature can no longer be read.
    SensorLost,
    /// The temperature can be read again.
    SensorReturns,
    /// The ambient temperature changes by this many kelvin at once.
    Ambient(f64),
    /// The supply voltage drops for a second.
    UnderVoltage,
    /// The firmware's throttle bits come and go, every other second for a minute.
    ThrottleFlips,
    /// One token takes 5 s, as when its weights are read from disk.
    SlowToken,
}

/// An event that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: write WHAT@TIME, e.g. fan-fails@20m, with WHAT one of fan-fails, fan-returns, \
     sensor-lost, sensor-returns, ambient+10, ambient-10 (kelvin), under-voltage, \
     throttle-flips, slow-token, and TIME in s, m or h"
)]
pub struct ParseEventError(String);

impl FromStr for Event {
    type Err = ParseEventError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseEventError(text.to_owned());
        let (what, at) = text.split_once('@').ok_or_else(wrong)?;
        let at = time(at).ok_or_else(wrong)?;
        let what = match what {
            "fan-fails" => What::FanFails,
            "fan-returns" => What::FanReturns,
            "sensor-lost" => What::SensorLost,
            "sensor-returns" => What::SensorReturns,
            "under-voltage" => What::UnderVoltage,
            "throttle-flips" => What::ThrottleFlips,
            "slow-token" => What::SlowToken,
            other => {
                let kelvin = other.strip_prefix("ambient").ok_or_else(wrong)?;
                let by: f64 = kelvin.parse().map_err(|_| wrong())?;
                // Beyond this the thermal model is not valid.
                if !kelvin.starts_with(['+', '-']) || !(-60.0..=60.0).contains(&by) {
                    return Err(wrong());
                }
                What::Ambient(by)
            }
        };
        Ok(Self { at, what })
    }
}

fn time(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_from_text() {
        for (text, seconds, what) in [
            ("fan-fails@20m", 1200, What::FanFails),
            ("ambient+10@1h", 3600, What::Ambient(10.0)),
            ("ambient-7.5@90s", 90, What::Ambient(-7.5)),
            ("slow-token@0s", 0, What::SlowToken),
        ] {
            let at = Duration::from_secs(seconds);
            assert_eq!(text.parse(), Ok(Event { at, what }), "{text}");
        }
    }

    #[test]
    fn errors_list_the_valid_events() {
        for text in [
            "",
            "fan-fails",
            "fan-fails@",
            "fan-fails@m",
            "fan-fails@5",
            "fan-fails@-5m",
            "fan-fails@99999999999999999999h",
            "fan-fails@9999999999999999999h",
            "fans@5m",
            "ambient@5m",
            "ambient10@5m",
            "ambient+x@5m",
            "ambient+inf@5m",
            "ambient+NaN@5m",
            "fan-fails@5é",
        ] {
            let error = text.parse::<Event>().expect_err(text).to_string();
            assert!(error.contains("fan-fails@20m"), "{error}");
        }
    }
}
