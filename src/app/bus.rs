//! The connection to the bus, which a daemon with sockets can do without.

use std::time::Duration;

use super::AppError;
use crate::daemon::Daemon;
use crate::dbus;

/// How often to check whether a lost bus is there again.
const RETRY: Duration = Duration::from_secs(5);

/// The bus connection; `None` without a bus, if there is a socket.
pub(super) async fn connect(
    daemon: &Daemon,
    has_socket: bool,
) -> Result<Option<zbus::Connection>, AppError> {
    if !daemon.config.get().dbus.enabled {
        return if has_socket {
            Ok(None)
        } else {
            Err(AppError::NoTransport("disabled".into()))
        };
    }
    match dbus::serve(daemon).await {
        Ok(connection) => Ok(Some(connection)),
        Err(error) if has_socket => {
            log::warn!("D-Bus is not available ({error}): serving the sockets only");
            Ok(None)
        }
        Err(error) => Err(AppError::NoTransport(error.to_string())),
    }
}

/// Resolves when the service has to be restarted for the bus: at once when the connection is
/// lost and there is no socket, otherwise when the bus is there again.
pub(super) async fn ended(bus: Option<zbus::Connection>, has_socket: bool) -> AppError {
    let Some(bus) = bus else {
        return std::future::pending().await;
    };
    bus.closed().await;
    if !has_socket {
        return AppError::BusLost;
    }
    log::warn!("the D-Bus connection was lost: serving the sockets only until the bus is back");
    drop(bus);
    while zbus::Connection::system().await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
    AppError::BusBack
}
