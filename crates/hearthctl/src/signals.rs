//! Signals that end a command.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at Ctrl-C, or when the terminal closes or the system shuts down: what is
/// half done is then removed. Never where the signals cannot be watched, since then they
/// end the process by themselves.
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
