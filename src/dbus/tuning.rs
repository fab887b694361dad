//! Measurements of models by threads: an interface of the object at `/org/hearthd/Inference1`.

use std::collections::HashMap;

use hearth_proto::ModelRef;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant, interface};

use super::callers::Callers;
use super::options::{self, Options};
use super::values::{tuning, tuning_json};
use super::{Error, jobs};
use crate::daemon::Daemon;

/// The interface `org.hearthd.Inference1.Tuning`.
#[derive(Debug)]
pub(super) struct Tuning {
    daemon: Daemon,
    callers: Callers,
}

impl Tuning {
    pub(super) const fn new(daemon: Daemon, callers: Callers) -> Self {
        Self { daemon, callers }
    }
}

#[interface(name = "org.hearthd.Inference1.Tuning")]
impl Tuning {
    /// Measures the speed of a model with 1, 2, … threads while the board is cool and idle, and
    /// waits for the result, which the governor uses from then on. An empty name means the
    /// loaded or the default model. The measurement stops when the caller leaves the bus.
    /// Option: `wait_s` (u): how long to wait for a cool and idle board in all, in seconds
    /// (default 600).
    #[zbus(out_args("measurement"))]
    async fn measure(
        &self,
        model: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<&'static str, OwnedVariant>, Error> {
        let wait = options::tune(&options)?;
        let peer = self.callers.identify(&header, connection).await?;
        let model = ModelRef::from(model.as_str());
        let measured = self.daemon.tuner.tune(&peer.caller, &model, wait);
        Ok(tuning(&peer.while_connected(measured).await?))
    }

    /// As `Measure`, as a job; `GetBoard` returns what it does or waits for. Options: `wait_s`
    /// (u), as there; `cancel_when_gone` (b): cancel it when the caller leaves the bus.
    #[zbus(out_args("job"))]
    async fn start_measure(
        &self,
        model: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let (wait, ends_with_caller) = options::tune_job(&options)?;
        let peer = self.callers.identify(&header, connection).await?;
        let model = ModelRef::from(model.as_str());
        let daemon = &self.daemon;
        let id = daemon.start_measurement(&peer.caller, &model, wait, tuning_json);
        let id = id.await?;
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

    /// Lists the stored measurements.
    #[zbus(out_args("measurements"))]
    fn list(&self) -> Vec<HashMap<&'static str, OwnedVariant>> {
        self.daemon.tuner.list().iter().map(tuning).collect()
    }

    /// Deletes the stored measurements. There are no options yet.
    async fn forget(&self, options: Options) -> Result<(), Error> {
        options::check(&options, &[])?;
        Ok(self.daemon.tuner.forget().await?)
    }
}
