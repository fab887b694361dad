//! Publishing a value that others watch.

use tokio::sync::watch;

/// Replaces the value, and wakes those who watch it if it is another one.
pub(crate) fn publish<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let has_changed = *current != value;
        *current = value;
        has_changed
    });
}
