//! Property changes of the manager.

use std::time::Duration;

use tokio::time::Instant;
use zbus::object_server::InterfaceRef;

use super::changed::{Changed, text};
use super::{Manager, NAME};
use crate::daemon::{Status, StatusWatch};

/// Property changes are coalesced for this long: the queue and the thread count may change
/// with every request.
const COALESCE: Duration = Duration::from_millis(100);
/// The temperature is announced at most this often.
const TEMPERATURE_INTERVAL: Duration = Duration::from_secs(1);

/// Emits PropertiesChanged for what changed, until the service ends.
pub(super) async fn publish(interface: InterfaceRef<Manager>, mut status: StatusWatch) {
    let mut shown = rounded(status.current());
    let mut temperature_due = Instant::now();
    loop {
        // A temperature that was held back is announced when it is due.
        let is_held_back = rounded(status.current()) != shown;
        tokio::select! {
            changed = status.changed() => if changed.is_none() { return },
            () = tokio::time::sleep_until(temperature_due), if is_held_back => {}
        }
        if rounded(status.current()) == shown {
            // Most readings of the board change nothing that is shown.
            continue;
        }
        tokio::time::sleep(COALESCE).await;
        let mut now = rounded(status.current());
        let at = Instant::now();
        if at < temperature_due {
            now.temperature_celsius = shown.temperature_celsius;
        } else {
            temperature_due = at + TEMPERATURE_INTERVAL;
        }
        let changed = changed(&shown, &now);
        if let Err(error) = changed.emit(interface.signal_emitter(), NAME).await {
            log::debug!("cannot emit PropertiesChanged: {error}");
        }
        shown = now;
    }
}

/// The status as the properties show it.
fn rounded(status: Status) -> Status {
    Status {
        temperature_celsius: status.temperature_celsius.map(shown_celsius),
        ..status
    }
}

/// A temperature in steps of half a degree: sensors flicker.
pub(super) fn shown_celsius(celsius: f64) -> f64 {
    (celsius * 2.0).round() / 2.0
}

fn changed(old: &Status, new: &Status) -> Changed {
    let mut changed = Changed::default();
    changed.add("State", (&old.state, &new.state), |state| {
        text(state.as_str())
    });
    for (name, old, new) in [
        ("Model", &old.model, &new.model),
        ("LimitReason", &old.limit_reason, &new.limit_reason),
        ("Cpu", &old.cpu, &new.cpu),
    ] {
        changed.add(name, (old, new), |value| text(value));
    }
    for (name, old, new) in [
        ("ThermalState", old.thermal_state, new.thermal_state),
        ("MemoryState", old.memory_state, new.memory_state),
    ] {
        changed.add(name, (&old, &new), |value| text(value));
    }
    for (name, old, new) in [
        ("ActiveThreads", old.active_threads, new.active_threads),
        ("MaxThreads", old.max_threads, new.max_threads),
        ("QueueLength", old.queue_length, new.queue_length),
        ("ActiveJobs", old.active_jobs, new.active_jobs),
    ] {
        changed.add(name, (&old, &new), |value| (*value).into());
    }
    let temperatures = (&old.temperature_celsius, &new.temperature_celsius);
    changed.add("TemperatureCelsius", temperatures, |celsius| {
        celsius.unwrap_or(f64::NAN).into()
    });
    let speeds = (&speed(old), &speed(new));
    changed.add_optional("TokensPerSecond", speeds, |speed| (*speed).into());
    let contexts = (&context_size(old), &context_size(new));
    changed.add_optional("ContextSize", contexts, |size| (*size).into());
    changed
}

/// The context size of the model that is shown, where one is loaded.
pub(super) fn context_size(status: &Status) -> Option<u32> {
    Some(status.context_size).filter(|size| *size > 0)
}

/// The speed of the last answer, where there was one.
pub(super) fn speed(status: &Status) -> Option<f64> {
    Some(status.tokens_per_second).filter(|speed| *speed > 0.0)
}

#[cfg(test)]
mod tests {
    use super::shown_celsius;

    #[test]
    fn temperatures_are_shown_in_half_degrees() {
        for (read, shown) in [(45.2, 45.0), (45.25, 45.5), (45.74, 45.5), (0.0, 0.0)] {
            assert!((shown_celsius(read) - shown).abs() < 1e-9, "{read}");
        }
    }
}
