//! Property changes of the manager.

use std::time::Duration;

use zbus::object_server::InterfaceRef;

use super::Manager;
use crate::daemon::{Status, StatusWatch};

/// Property changes are coalesced for this long: the queue and the thread count may change
/// with every request.
const COALESCE: Duration = Duration::from_millis(100);

/// Emits PropertiesChanged for what changed, until the service ends.
pub(super) async fn publish(interface: InterfaceRef<Manager>, mut status: StatusWatch) {
    let mut shown = status.current();
    while let Some(changed) = status.changed().await {
        // Most readings of the board change nothing that is shown.
        if changed == shown {
            continue;
        }
        tokio::time::sleep(COALESCE).await;
        let now = status.current();
        if let Err(error) = emit(&interface, &shown, &now).await {
            log::debug!("cannot emit PropertiesChanged: {error}");
        }
        shown = now;
    }
}

#[expect(clippy::float_cmp, reason = "every change is published")]
async fn emit(interface: &InterfaceRef<Manager>, old: &Status, new: &Status) -> zbus::Result<()> {
    let (manager, to) = (interface.get().await, interface.signal_emitter());
    macro_rules! changed {
        ($($field:ident => $emit:ident),* $(,)?) => {
            $(if old.$field != new.$field { manager.$emit(to).await?; })*
        };
    }
    changed! {
        state => state_changed,
        model => model_changed,
        context_size => context_size_changed,
        active_threads => active_threads_changed,
        max_threads => max_threads_changed,
        thermal_state => thermal_state_changed,
        temperature_celsius => temperature_celsius_changed,
        memory_state => memory_state_changed,
        limit_reason => limit_reason_changed,
        queue_length => queue_length_changed,
        active_jobs => active_jobs_changed,
        tokens_per_second => tokens_per_second_changed,
        cpu => cpu_changed,
    }
    Ok(())
}
