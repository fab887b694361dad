//! What the pool publishes.

use hearth_proto::{Failure, ModelInfo};

/// The engines and what is to be loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStatus {
    /// The models that are loaded or being loaded.
    pub resident: Vec<ResidentModel>,
    /// The model that is to be in memory.
    pub wanted: Option<String>,
    /// Why the last load failed; `None` if another one was requested since.
    pub failed: Option<Failure>,
    /// How often an engine has crashed or was killed since the daemon started.
    pub crashes: u64,
    /// How often a model has become ready since the daemon started.
    pub loads: u64,
    /// How many engines have ended, each reported by a [`super::PoolEvent::Ended`].
    pub ends: u64,
    /// The engine's CPU kernels; empty before the first load.
    pub cpu: String,
}

/// A model that is loaded or being loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidentModel {
    /// Its name.
    pub name: String,
    /// What the engine reports about it; `None` while it loads.
    pub info: Option<ModelInfo>,
    /// The engine's process.
    pub pid: Option<u32>,
    /// What was reduced to fit the memory; empty if nothing was.
    pub note: String,
}

impl PoolStatus {
    /// The model that requests without a model's name are for.
    pub fn first(&self) -> Option<&ResidentModel> {
        self.resident.first()
    }

    /// The model of this name, if it is loaded or being loaded.
    pub fn get(&self, name: &str) -> Option<&ResidentModel> {
        self.resident.iter().find(|model| model.name == name)
    }
}
