//! The governor's settings from the configuration.

use hearth_policy::governor::{GovernorSettings, Policy, SpeedTable};
use hearth_proto::units::MilliCelsius;

use crate::config::{GovernorConfig, PolicyName};

/// The configured governor for a pool with this many threads.
pub(super) fn governor_settings(config: &GovernorConfig, threads_max: u32) -> GovernorSettings {
    let celsius = i32::try_from(config.temperature_limit_celsius).unwrap_or(0);
    GovernorSettings {
        policy: match config.policy {
            PolicyName::Throughput => Policy::Throughput,
            PolicyName::Balanced => Policy::Balanced,
            PolicyName::Quiet => Policy::Quiet {
                power_percent: config.power_percent,
            },
        },
        threads_max,
        temperature_limit: (celsius > 0).then_some(MilliCelsius(celsius.saturating_mul(1000))),
        table: SpeedTable::default(),
        threads_useful: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_reaches_the_governor() {
        let config = GovernorConfig {
            policy: PolicyName::Quiet,
            power_percent: 40,
            temperature_limit_celsius: 70,
        };
        let settings = governor_settings(&config, 3);
        assert_eq!(settings.policy, Policy::Quiet { power_percent: 40 });
        assert_eq!(settings.temperature_limit, Some(MilliCelsius(70_000)));
        assert_eq!(settings.threads_max, 3);
        let automatic = governor_settings(&GovernorConfig::default(), 3);
        assert_eq!(automatic.policy, Policy::Balanced);
        assert_eq!(automatic.temperature_limit, None);
    }
}
