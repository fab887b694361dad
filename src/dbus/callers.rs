//! Identifies callers by their bus name, and reports when they leave the bus.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use hearth_proto::{Failure, FailureKind};
use parking_lot::Mutex;
use tokio::sync::watch;
use zbus::connection::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;

use super::Error;
use crate::board::BoardMonitor;
use crate::caller::{Caller, Origin, Principal};
use crate::dispatch::Stream;

/// Known callers. The uid of a unique name never changes, so it is queried once.
#[derive(Clone, Debug)]
pub struct Callers {
    board: BoardMonitor,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Clone, Debug)]
struct Known {
    uid: u32,
    unit: Option<String>,
    left: watch::Sender<bool>,
}

/// A caller, and whether it has left the bus.
#[derive(Debug)]
pub(super) struct BusCaller {
    pub(super) caller: Caller,
    left: watch::Receiver<bool>,
}

impl BusCaller {
    /// Resolves when the caller has left the bus.
    pub(super) async fn disconnected(&self) {
        // The sender is dropped only with the whole service.
        _ = self.left.clone().wait_for(|left| *left).await;
    }

    /// Waits for a result. If the caller leaves the bus first, the future is dropped, which
    /// cancels its requests.
    pub(super) async fn while_connected<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = work => Ok(done?),
            () = self.disconnected() => Err(Failure::cancelled().into()),
        }
    }

    /// Lets a request go on that nobody waits for; its result is only logged.
    pub(super) fn finish_detached(self, stream: Stream, ends_with_caller: bool) {
        tokio::spawn(async move {
            if ends_with_caller {
                _ = self.while_connected(stream.collect()).await;
            } else {
                _ = stream.collect().await;
            }
        });
    }
}

impl Callers {
    pub(super) fn new(board: BoardMonitor) -> Self {
        Self {
            board,
            known: Arc::default(),
        }
    }

    /// Removes callers that leave the bus, and wakes the tasks that wait for it. A
    /// peer-to-peer connection has no bus and does not need this.
    pub(super) async fn watch(&self, connection: &Connection) -> zbus::Result<()> {
        if !connection.is_bus() {
            return Ok(());
        }
        let bus = DBusProxy::new(connection).await?;
        let mut changes = bus.receive_name_owner_changed().await?;
        let callers = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                let Ok(args) = change.args() else { continue };
                if args.new_owner().is_none()
                    && let Some(known) = callers.known.lock().remove(args.name().as_str())
                {
                    known.left.send_replace(true);
                }
            }
            // The bus is gone, and all callers with it.
            for (_, known) in callers.known.lock().drain() {
                known.left.send_replace(true);
            }
        });
        Ok(())
    }

    /// The sender of a call.
    pub(super) async fn identify(
        &self,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<BusCaller, Error> {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        let known = self.known.lock().get(&sender).cloned();
        let known = if let Some(known) = known {
            known
        } else {
            let (uid, pid) = self.credentials(&sender, connection).await?;
            let unit = match pid {
                Some(pid) => self.board.unit_of(pid).await,
                None => None,
            };
            let known = Known {
                uid,
                unit,
                left: watch::Sender::default(),
            };
            let known = self
                .known
                .lock()
                .entry(sender.clone())
                .or_insert(known)
                .clone();
            // It may have left before it was known; no further signal reports that.
            if !is_present(&sender, connection).await {
                self.known.lock().remove(&sender);
                known.left.send_replace(true);
            }
            known
        };
        Ok(BusCaller {
            caller: Caller {
                unit: known.unit.clone(),
                ..Caller::new(Principal::Uid(known.uid), Origin::Bus(sender))
            },
            left: known.left.subscribe(),
        })
    }

    /// The sender's uid and process.
    async fn credentials(
        &self,
        sender: &str,
        connection: &Connection,
    ) -> Result<(u32, Option<u32>), Error> {
        let unknown = || {
            Failure::new(
                FailureKind::AccessDenied,
                "the bus does not report the user id of the caller",
            )
        };
        let credentials = if connection.is_bus() {
            let bus = DBusProxy::new(connection).await?;
            let name = BusName::try_from(sender).map_err(|_| unknown())?;
            let credentials = bus.get_connection_credentials(name).await;
            Arc::new(credentials.map_err(|_| unknown())?)
        } else {
            let credentials = connection.peer_creds().await;
            Arc::clone(credentials.map_err(|_| unknown())?)
        };
        let uid = credentials.unix_user_id().ok_or_else(unknown)?;
        Ok((uid, credentials.process_id()))
    }
}

/// Whether a caller is still on the bus; always true on a peer-to-peer connection.
async fn is_present(sender: &str, connection: &Connection) -> bool {
    if !connection.is_bus() {
        return true;
    }
    let (Ok(bus), Ok(name)) = (DBusProxy::new(connection).await, BusName::try_from(sender)) else {
        return false;
    };
    bus.name_has_owner(name).await.unwrap_or(false)
}

/// Signals to one caller only, by its name on the bus. A peer-to-peer connection has one caller,
/// without a name.
pub(super) fn to_caller(signals: SignalEmitter<'static>, name: &str) -> SignalEmitter<'static> {
    match BusName::try_from(name.to_owned()) {
        Ok(name) => signals.set_destination(name),
        Err(_) => signals,
    }
}
