//! What the pool publishes.

use hearth_proto::units::Bytes;
use hearth_proto::{Failure, ModelInfo};

/// The engines and what is to be loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStatus {
    /// The models that are loaded or being loaded: those that generate first, and of these
    /// the last used first.
    pub resident: Vec<ResidentModel>,
    /// The models that are to be loaded as soon as there is room.
    pub wanted: Vec<String>,
    /// Why the last load failed; `None` if a model was requested since.
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
    /// How much of it is loaded, 0 to 1.
    pub load_progress: f32,
    /// Distinguishes the engine from all other ones.
    pub serial: u64,
    /// The engine's process.
    pub pid: Option<u32>,
    /// What was reduced to fit the memory; empty if nothing was.
    pub note: String,
    /// The memory that it may take, by the estimate.
    pub estimate: Bytes,
    /// The draft model that was loaded with it and is still in memory.
    pub draft: Option<String>,
    /// How many inhibitors and keep-alives keep it in memory.
    pub holds: usize,
    /// Whether it leaves the memory as soon as its requests have ended.
    pub is_ending: bool,
}

impl PoolStatus {
    /// The model that is shown where there is room for one.
    pub fn first(&self) -> Option<&ResidentModel> {
        self.resident.first()
    }

    /// The model of this name, if it is loaded or being loaded.
    pub fn get(&self, name: &str) -> Option<&ResidentModel> {
        self.resident.iter().find(|model| model.name == name)
    }

    /// The engines' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.resident.iter().filter_map(|model| model.pid).collect()
    }
}
