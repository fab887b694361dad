//! The metrics of the board. Values that a board does not provide are omitted: 0 °C would
//! look like a reading.

use std::fmt;
use std::sync::Arc;

use hearth_policy::governor::{Cause, MemoryState, ThermalState};
use hearth_proto::units::{Bytes, MilliCelsius, Permille};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::daemon::BoardSnapshot;

/// The latest snapshot of the board.
#[derive(Clone, Debug, Default)]
pub(super) struct BoardMetrics(Arc<Mutex<BoardSnapshot>>);

impl BoardMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    pub(super) fn set(&self, board: BoardSnapshot) {
        *self.0.lock() = board;
    }
}

impl Collector for BoardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let board = self.0.lock();
        for (name, help, unit, value) in gauges(&board) {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let unit = unit.as_ref();
                gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)?;
            }
        }
        let causes = Cause::ALL.map(|cause| (cause.as_str(), Some(cause) == board.cause));
        states(
            &mut encoder,
            "limited",
            "Whether the engine runs below full speed, by cause",
            "cause",
            &causes,
        )?;
        let thermal = ThermalState::ALL.map(|s| (s.as_str(), s.as_str() == board.thermal_state));
        states(
            &mut encoder,
            "thermal_state",
            "Thermal state of the board",
            "state",
            &thermal,
        )?;
        let memory = MemoryState::ALL.map(|s| (s.as_str(), s.as_str() == board.memory_state));
        states(
            &mut encoder,
            "memory_state",
            "Memory state of the board",
            "state",
            &memory,
        )
    }
}

/// Name, help text, unit and value of a gauge.
type BoardGauge = (&'static str, &'static str, Option<Unit>, Option<f64>);

/// The gauges; those without a value are omitted.
fn gauges(board: &BoardSnapshot) -> [BoardGauge; 8] {
    let celsius = |t: Option<MilliCelsius>| t.map(MilliCelsius::celsius);
    let share = |p: Permille| f64::from(p.0) / 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "a board has no petabytes")]
    let bytes = |bytes: Option<Bytes>| bytes.map(|b| b.0 as f64);
    let threads = Some(f64::from(board.threads_max));
    [
        (
            "temperature",
            "Temperature of the hottest CPU zone",
            Some(Unit::Celsius),
            celsius(board.temperature),
        ),
        (
            "temperature_limit",
            "Temperature limit of the governor",
            Some(Unit::Celsius),
            celsius(board.temperature_limit),
        ),
        (
            "max_threads",
            "Maximum number of compute threads",
            None,
            threads,
        ),
        (
            "duty",
            "Share of time in which the engine may compute; 0 while paused",
            Some(Unit::Other("ratio".into())),
            Some(share(board.duty)),
        ),
        (
            "frequency_cap",
            "Highest allowed CPU frequency, relative to the highest possible one",
            Some(Unit::Other("ratio".into())),
            board.frequency_cap.map(share),
        ),
        (
            "memory_total",
            "Total memory of the board",
            Some(Unit::Bytes),
            bytes(board.memory_total),
        ),
        (
            "memory_available",
            "Available memory of the board",
            Some(Unit::Bytes),
            bytes(board.memory_available),
        ),
        (
            "engine_resident",
            "Resident memory of the engine process",
            Some(Unit::Bytes),
            bytes(board.engines),
        ),
    ]
}

/// One gauge for each state: 1 for the current one, else 0.
fn states(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    states: &[(&str, bool)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (state, is_current) in states {
        let labels = [(label, *state)];
        ConstGauge::new(i64::from(*is_current)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn only_values_of_the_board_are_encoded() {
        let mut registry = Registry::with_prefix("hearthd");
        let metrics = BoardMetrics::default();
        metrics.register(&mut registry);
        let shown = |board: BoardSnapshot| {
            metrics.set(board);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let text = shown(BoardSnapshot {
            temperature: Some(MilliCelsius(71_500)),
            temperature_limit: Some(MilliCelsius(80_000)),
            duty: Permille(850),
            cause: Some(Cause::Heat),
            thermal_state: ThermalState::Limit.as_str(),
            memory_total: Some(Bytes::mib(4)),
            ..BoardSnapshot::default()
        });
        for line in [
            "hearthd_temperature_celsius 71.5\n",
            "hearthd_temperature_limit_celsius 80.0\n",
            "hearthd_duty_ratio 0.85\n",
            "hearthd_memory_total_bytes 4194304.0\n",
            "hearthd_limited{cause=\"heat\"} 1\n",
            "hearthd_limited{cause=\"quiet\"} 0\n",
            "hearthd_thermal_state{state=\"limit\"} 1\n",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        assert!(!shown(BoardSnapshot::default()).contains("hearthd_temperature_celsius"));
    }
}
