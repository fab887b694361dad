//! Whether the board's temperature is known, when single samples may be missing.

use std::time::Duration;

use hearth_proto::reading::Reading;
use hearth_proto::units::MilliCelsius;

use super::Now;

/// The temperature may be missing for one sample, and after that for this long.
const SENSOR_PATIENCE: Duration = Duration::from_secs(5);

/// Whether the temperature is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SensorState {
    /// This board has never reported one.
    Never,
    Seen(MilliCelsius),
    /// Missing for a short time.
    Missing,
    Lost,
}

/// The samples of the temperature so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sensor {
    last: Option<(Now, MilliCelsius)>,
    /// Samples since then.
    missing: u32,
}

impl Sensor {
    pub(super) fn observe(&mut self, now: Now, reading: &Reading) -> SensorState {
        if let Some(temperature) = reading.temperature {
            self.last = Some((now, temperature));
            self.missing = 0;
            return SensorState::Seen(temperature);
        }
        let Some(blind) = self.blind(now) else {
            return SensorState::Never;
        };
        self.missing = self.missing.saturating_add(1);
        if self.missing > 1 && blind > SENSOR_PATIENCE {
            SensorState::Lost
        } else {
            SensorState::Missing
        }
    }

    /// The last temperature that was reported.
    pub(super) fn last(&self) -> Option<MilliCelsius> {
        self.last.map(|(_, temperature)| temperature)
    }

    /// The time since the last sample; `None` if there was none.
    pub(super) fn blind(&self, now: Now) -> Option<Duration> {
        self.last.map(|(at, _)| now.saturating_sub(at))
    }
}
