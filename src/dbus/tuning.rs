//! Measurements of models by threads: an interface of the object at `/org/hearthd/Inference1`.

use std::collections::HashMap;

use hearth_proto::ModelRef;
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::{OwnedVariant, interface};

use super::Error;
use super::callers::Callers;
use super::options::{self, Options};
use super::values::tuning;
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
    /// Measures the speed of a model with 1, 2, … threads while the board is cool and idle; the
    /// governor uses the result from then on. An empty name means the loaded or the default
    /// model. `GetBoard` returns the progress. The measurement stops when the caller leaves
    /// the bus. Option: `wait_s` (u): how long to wait for a cool and idle board in all, in
    /// seconds (default 600).
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

    /// Lists the stored measurements.
    #[zbus(out_args("measurements"))]
    fn list(&self) -> Vec<HashMap<&'static str, OwnedVariant>> {
        self.daemon.tuner.list().iter().map(tuning).collect()
    }

    /// Deletes the stored measurements.
    async fn forget(&self) -> Result<(), Error> {
        Ok(self.daemon.tuner.forget().await?)
    }
}
