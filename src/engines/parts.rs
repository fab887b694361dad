//! The files that belong to a model, its adapters and its projector. They are loaded with it: for
//! a request that needs one which was installed later, the model is loaded again.

use super::residency::Residency;
use super::{EnginePool, PoolEvent};
use crate::models::{ModelIndex, ProjectorOf, StoredModel};

/// Distinguishes a file from another one that was installed later under the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartId {
    name: String,
    size_bytes: u64,
    modified_s: u64,
}

impl From<&StoredModel> for PartId {
    fn from(file: &StoredModel) -> Self {
        Self {
            name: file.name.clone(),
            size_bytes: file.size_bytes,
            modified_s: file.modified_s,
        }
    }
}

impl PartId {
    /// The files that are installed for a model, also those for which there is no memory: to
    /// load it again would not help these.
    pub(super) fn all(index: &ModelIndex, model: &StoredModel) -> Vec<Self> {
        let adapters = index.adapters_of(&model.name).into_iter();
        let mut all: Vec<Self> = adapters.map(Self::from).collect();
        if let ProjectorOf::Found(projector) = index.projector_of(model) {
            all.push(Self::from(&projector));
        }
        all
    }
}

impl Residency {
    /// The first of these files that was not there when a model was loaded; `None` also where
    /// the model is not in memory, or is about to end.
    fn missing_part<'a>(&self, model: &str, needed: &'a [PartId]) -> Option<&'a PartId> {
        let engine = self.get(model)?.engine.as_ref()?;
        let is_missing = |part: &&PartId| !engine.is_ending && !engine.parts.contains(part);
        needed.iter().find(is_missing)
    }

    /// Ends a model's engine when its running requests have ended. It is still wanted, so that
    /// another engine loads it again.
    fn renew(&mut self, model: &str) {
        let resident = self.models.get_mut(model);
        if let Some(engine) = resident.and_then(|resident| resident.engine.as_mut()) {
            engine.is_ending = true;
            self.events.push(PoolEvent::Retiring {
                model: model.to_owned(),
            });
        }
    }
}

impl EnginePool {
    /// Has a model loaded again if one of the files that a request needs was installed after it
    /// was loaded.
    pub(crate) fn renew_for(&self, model: &str, needed: &[PartId]) {
        let is_outdated = {
            let residency = self.shared.residency.lock();
            residency.missing_part(model, needed).is_some()
        };
        if !is_outdated {
            return;
        }
        self.change(|residency| {
            let Some(part) = residency.missing_part(model, needed) else {
                return;
            };
            let part = part.name.as_str();
            log::info!(model, part; "loading the model again: a file that a request needs was installed after it was loaded");
            residency.renew(model);
        });
    }
}
