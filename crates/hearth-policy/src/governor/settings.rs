//! The governor's settings.

use hearth_proto::units::MilliCelsius;

use super::spending::SpeedTable;

/// What to favour: throughput, temperature, or noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Let the firmware throttle the cores; act only from 3 K above the limit on.
    Throughput,
    /// Hold the board just below its limit.
    #[default]
    Balanced,
    /// As balanced, and never above a share of the computing power.
    Quiet {
        /// That share, 5 to 100.
        power_percent: u8,
    },
}

impl Policy {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Balanced => "balanced",
            Self::Quiet { .. } => "quiet",
        }
    }

    pub(super) fn cap(self) -> f64 {
        match self {
            Self::Quiet { power_percent } => (f64::from(power_percent) / 100.0).clamp(0.05, 1.0),
            Self::Throughput | Self::Balanced => 1.0,
        }
    }
}

/// Settings of the governor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GovernorSettings {
    /// What to favour.
    pub policy: Policy,
    /// Threads of the engine's pool.
    pub threads_max: u32,
    /// A lower limit than the board's own.
    pub temperature_limit: Option<MilliCelsius>,
    /// Speed by thread count.
    pub table: SpeedTable,
    /// Measured thread count above which both decode and prefill are slower.
    pub threads_useful: Option<u32>,
}
