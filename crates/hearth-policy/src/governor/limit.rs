//! The temperature limits of a board (docs/governor.md).

use hearth_proto::units::MilliCelsius;

use super::{Policy, Reading};

/// Passive trip points below this are not limits but fan steps of some boards.
const PASSIVE_FLOOR: MilliCelsius = MilliCelsius(65_000);
/// Highest limit on a Raspberry Pi: its firmware begins to throttle the cores here
/// (Raspberry Pi documentation, "Frequency management and thermal control").
const PI_LIMIT: MilliCelsius = MilliCelsius(80_000);
/// Margin below the firmware's hard limit.
const BELOW_FIRMWARE: i32 = 5_000;
/// Highest limit on other boards.
const LIMIT_DEFAULT: MilliCelsius = MilliCelsius(85_000);
/// Margin below the critical trip point, where the kernel powers off.
const BELOW_CRITICAL: i32 = 15_000;
/// Within this margin of the critical trip point it is an emergency, whatever the limit.
/// Not more: a Raspberry Pi 4's critical trip is only 10 K above its limit (bcm283x.dtsi).
const EMERGENCY_BELOW_CRITICAL: i32 = 5_000;

/// The limit and emergency temperatures of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Temperature that must not be exceeded for long.
    pub(super) limit: MilliCelsius,
    /// Temperature at which work stops.
    pub(super) emergency: MilliCelsius,
}

impl Bounds {
    /// The board's bounds; `wanted` lowers the limit, never raises it.
    pub(super) fn of(reading: &Reading, policy: Policy, wanted: Option<MilliCelsius>) -> Self {
        let limit = own_limit(reading);
        let limit = wanted.map_or(limit, |wanted| limit.min(wanted));
        // Under `throughput` the firmware controls up to its hard limit, 5 K above ours;
        // only a higher temperature is a fault.
        let over = match policy {
            Policy::Throughput => 7_000,
            Policy::Balanced | Policy::Quiet { .. } => 3_000,
        };
        let emergency = MilliCelsius(limit.0.saturating_add(over));
        let emergency = match reading.critical_trip {
            Some(trip) => emergency.min(MilliCelsius(
                trip.0.saturating_sub(EMERGENCY_BELOW_CRITICAL),
            )),
            None => emergency,
        };
        Self { limit, emergency }
    }
}

fn own_limit(reading: &Reading) -> MilliCelsius {
    if let Some(trip) = reading.passive_trip.filter(|trip| *trip >= PASSIVE_FLOOR) {
        return trip;
    }
    if let Some(firmware) = reading.firmware_limit {
        return PI_LIMIT.min(MilliCelsius(firmware.0.saturating_sub(BELOW_FIRMWARE)));
    }
    let critical = reading.critical_trip;
    let below = critical.map_or(LIMIT_DEFAULT, |t| {
        MilliCelsius(t.0.saturating_sub(BELOW_CRITICAL))
    });
    LIMIT_DEFAULT.min(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_can_only_lower_the_boards_limit() {
        let c = |celsius: i32| Some(MilliCelsius(celsius * 1000));
        // passive, firmware, critical, wanted: limit, emergency
        for (passive, firmware, critical, wanted, limit, emergency) in [
            (None, None, None, None, 85, 88),
            (c(85), None, c(115), None, 85, 88),
            (c(95), None, c(105), None, 95, 98),
            (c(95), None, c(100), None, 95, 95),
            (None, c(85), c(90), None, 80, 83),
            (c(70), c(85), None, None, 70, 73),
            // A fan's step, and a Pi 5's critical trip of 110.
            (c(60), c(85), c(110), None, 80, 83),
            (None, c(70), c(110), None, 65, 68),
            (None, None, c(90), None, 75, 78),
            (None, c(85), c(110), c(60), 60, 63),
            (None, c(85), c(110), c(95), 80, 83),
        ] {
            let reading = Reading {
                passive_trip: passive,
                firmware_limit: firmware,
                critical_trip: critical,
                ..Reading::default()
            };
            let bounds = Bounds::of(&reading, Policy::Balanced, wanted);
            assert_eq!(bounds.limit, MilliCelsius(limit * 1000), "{reading:?}");
            assert_eq!(
                bounds.emergency,
                MilliCelsius(emergency * 1000),
                "{reading:?}"
            );
        }
    }
}
