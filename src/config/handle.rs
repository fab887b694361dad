//! The configuration that is in force, which a reload replaces.

use std::sync::Arc;

use tokio::sync::watch;

use super::Config;

/// Replaces the configuration on a reload.
#[derive(Debug)]
pub struct ConfigWriter(watch::Sender<Arc<Config>>);

/// Reads the configuration that is in force.
#[derive(Clone, Debug)]
pub struct ConfigReader(watch::Receiver<Arc<Config>>);

impl ConfigWriter {
    /// A writer with this initial configuration.
    pub fn new(config: Config) -> Self {
        Self(watch::Sender::new(Arc::new(config)))
    }

    /// The configuration now.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// A reader of it.
    pub fn reader(&self) -> ConfigReader {
        ConfigReader(self.0.subscribe())
    }

    /// Replaces the configuration; the new one applies to later requests and loads.
    pub fn set(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }
}

impl ConfigReader {
    /// The configuration now.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }
}
