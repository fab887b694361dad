//! Signals that end a command.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at Ctrl-C, when the terminal closes or when the system shuts down; incomplete
/// files are then removed. Never resolves if the signals cannot be watched: they then end
/// the process directly.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
