//! The D-Bus transport, `org.hearthd.Inference1`.
//!
//! Transports only translate. Objects are served before the name is requested, so that no
//! client ever sees the name without them.

mod callers;
mod changed;
mod embedding;
mod error;
mod images;
mod jobs;
mod manager;
mod model_store;
mod models;
mod options;
mod polkit;
mod prompt_cache;
mod publish;
mod session_options;
mod sessions;
mod stream;
mod tuning;
mod turn;
mod values;

use zbus::connection::{Builder, Connection};
use zbus::fdo::{self, RequestNameFlags};

use crate::daemon::Daemon;

pub use callers::Callers;
pub use error::Error;
pub use hearth_proto::bus::{ERRORS, NAME, PATH};
pub use manager::Manager;
use model_store::ModelStore;
use prompt_cache::PromptCache;
use tuning::Tuning;

/// Features of this build, so that clients can check for them before a call.
const FEATURES: &[&str] = &[
    "chat",
    "constrained-output",
    "count-tokens",
    "embeddings",
    "http-openai",
    "import",
    "infill",
    "jobs",
    "prewarm",
    "rerank",
    "sessions",
    "stream",
    "tool-calls",
    "tune",
];

/// Serves the API on the system bus and requests the name. The connection lives as long as
/// the returned value.
///
/// # Errors
/// There is no bus, the name has an owner, or the policy does not let this user own it.
pub async fn serve(daemon: &Daemon) -> zbus::Result<Connection> {
    let connection = objects(Builder::system(), daemon)?.build().await?;
    start(&connection, daemon).await?;
    // By zbus's default another process can take the name away, and this one takes it from
    // another: a daemon started by hand beside the service would make the service
    // unreachable.
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    connection.request_name_with_flags(NAME, flags).await?;
    Ok(connection)
}

/// Adds the objects to a connection that is being built; also used for peer-to-peer.
///
/// # Errors
/// Those of the builder.
pub fn objects<'a>(builder: Builder<'a>, daemon: &Daemon) -> zbus::Result<Builder<'a>> {
    let manager = Manager::new(daemon.clone());
    let callers = manager.callers().clone();
    Ok(builder
        .serve_at(PATH, ModelStore::new(daemon.clone(), callers.clone()))
        .serve_at(PATH, PromptCache::new(daemon.clone(), callers.clone()))
        .serve_at(PATH, Tuning::new(daemon.clone(), callers))
        .serve_at(PATH, manager)
        .serve_at(PATH, fdo::ObjectManager))
}

/// Starts the tasks that watch callers and publish property changes.
///
/// # Errors
/// Errors of the bus.
pub async fn start(connection: &Connection, daemon: &Daemon) -> zbus::Result<()> {
    let interface = connection
        .object_server()
        .interface::<_, Manager>(PATH)
        .await?;
    let callers = interface.get().await.callers().clone();
    callers.watch(connection).await?;
    let models = models::Objects::serve(daemon.clone(), callers, connection).await?;
    tokio::spawn(models.publish());
    tokio::spawn(publish::publish(interface, daemon.watch_status()));
    Ok(())
}
