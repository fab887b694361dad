//! The projector that is loaded with a model, and its memory.

use std::path::PathBuf;

use hearth_gguf::{projector_memory, projector_memory_max};
use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;

use crate::models::{ModelIndex, ProjectorOf, StoredModel};

/// A model's projector; without a path if it has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Projector {
    pub(super) path: Option<PathBuf>,
    /// What it takes.
    pub(super) memory: Bytes,
    /// The most that it may allocate.
    pub(super) max: Bytes,
}

impl Projector {
    pub(super) fn of(index: &ModelIndex, model: &StoredModel) -> Self {
        let found = match index.projector_of(model) {
            ProjectorOf::None => return Self::default(),
            ProjectorOf::Unusable(why) => {
                log::warn!(model = model.name.as_str(); "the model is loaded without a projector: {why}");
                return Self::default();
            }
            ProjectorOf::Found(found) => found,
        };
        let Ok(header) = &found.header else {
            return Self::default();
        };
        log::info!(model = model.name.as_str(), projector = found.name.as_str(); "the model takes pictures or sounds");
        Self {
            memory: projector_memory(header),
            max: projector_memory_max(header),
            path: Some(found.path),
        }
    }

    /// The memory that is left for the model itself.
    pub(super) fn without(&self, memory: &Memory) -> Memory {
        let left = |bytes: Bytes| Bytes(bytes.0.saturating_sub(self.memory.0));
        Memory {
            available: memory.available.map(left),
            cgroup_max: memory.cgroup_max.map(left),
            ..*memory
        }
    }
}
