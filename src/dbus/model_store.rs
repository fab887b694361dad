//! The installed models: an interface of the object at `/org/hearthd/Inference1`.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd as StdFd;

use zbus::connection::Connection;
use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, interface};

use super::callers::Callers;
use super::options::{self, Options};
use super::polkit::{self, Action};
use super::values::entry;
use super::{Error, jobs};
use crate::daemon::Daemon;

/// The interface `org.hearthd.Inference1.ModelStore`.
#[derive(Debug)]
pub(super) struct ModelStore {
    daemon: Daemon,
    callers: Callers,
}

impl ModelStore {
    pub(super) const fn new(daemon: Daemon, callers: Callers) -> Self {
        Self { daemon, callers }
    }
}

#[interface(name = "org.hearthd.Inference1.ModelStore")]
impl ModelStore {
    /// Lists the installed models, then the adapters.
    #[zbus(out_args("models"))]
    async fn list(&self) -> Vec<HashMap<&'static str, OwnedVariant>> {
        let models = self.daemon.models().await.into_iter();
        let states = self.daemon.model_states();
        let entries = models.chain(self.daemon.adapters().await).map(|model| {
            let state = states.iter().find(|state| state.name == model.name);
            entry(model, state)
        });
        entries.collect()
    }

    /// Copies a model or an adapter into the service's folder under this name, checks it, and
    /// waits for that. There are no options yet.
    async fn import(
        &self,
        name: String,
        file: OwnedFd,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        let allowed = polkit::check(&peer, &header, connection, Action::ImportModel).await?;
        let file = File::from(StdFd::from(file));
        let (daemon, caller) = (&self.daemon, &peer.caller);
        Ok(daemon.import_model(caller, allowed, &name, file).await?)
    }

    /// As `Import`, as a job. Option: `cancel_when_gone` (b): cancel it when the caller leaves
    /// the bus. A cancelled import leaves nothing behind.
    #[zbus(out_args("job"))]
    async fn start_import(
        &self,
        name: String,
        file: OwnedFd,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let ends_with_caller = options::job(&options)?;
        let peer = self.callers.identify(&header, connection).await?;
        let allowed = polkit::check(&peer, &header, connection, Action::ImportModel).await?;
        let file = File::from(StdFd::from(file));
        let daemon = &self.daemon;
        let id = daemon.start_import(&peer.caller, allowed, &name, file)?;
        jobs::serve_started(
            daemon,
            &self.callers,
            connection,
            peer,
            ends_with_caller,
            id,
        )
        .await
    }

    /// Deletes an imported model. There are no options yet.
    async fn remove(
        &self,
        name: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        let allowed = polkit::check(&peer, &header, connection, Action::RemoveModel).await?;
        let caller = &peer.caller;
        Ok(self.daemon.remove_model(caller, allowed, &name).await?)
    }
}
