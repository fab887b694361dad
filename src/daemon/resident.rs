//! The installed models with their state in memory.

use hearth_policy::holds::Hold;
use hearth_proto::{ModelKind, Use};

use super::Daemon;
use crate::clock::unix_seconds;
use crate::engines::{PoolStatus, ResidentModel};
use crate::models::{ModelIndex, StoredModel};

/// What is done with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelState {
    /// It is not in memory.
    #[default]
    Unloaded,
    /// It is to be loaded as soon as there is room.
    Waiting,
    /// It is being loaded.
    Loading,
    /// It takes requests.
    Ready,
    /// It leaves the memory when its requests have ended.
    Unloading,
}

impl ModelState {
    /// The word on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Unloading => "unloading",
        }
    }

    fn of(name: &str, pool: &PoolStatus) -> Self {
        match pool.get(name) {
            Some(model) if model.is_ending => Self::Unloading,
            Some(model) if model.info.is_some() => Self::Ready,
            Some(_) => Self::Loading,
            None if pool.wanted.iter().any(|wanted| wanted == name) => Self::Waiting,
            None => Self::Unloaded,
        }
    }
}

/// An installed model and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// What is done with it.
    pub state: ModelState,
    /// Size of its file.
    pub size_bytes: u64,
    /// The memory that it may take, by the estimate; 0 if it is not in memory.
    pub memory_bytes: u64,
    /// Its context in tokens; 0 if it is not in memory.
    pub context_size: u32,
    /// The draft model that is in memory with it; empty without one.
    pub draft: String,
    /// What it can be asked for.
    pub tasks: Vec<&'static str>,
    /// What keeps it in memory.
    pub holds: Vec<Hold>,
}

impl Daemon {
    /// The installed models and their states, as last listed.
    pub fn model_states(&self) -> Vec<ModelStatus> {
        let (index, pool) = (self.store.index(), self.pool.status());
        let models = index.models().iter();
        models
            .map(|model| self.state_of(model, &index, &pool))
            .collect()
    }

    /// One installed model and its state; `None` if it is not installed.
    pub fn model_state(&self, name: &str) -> Option<ModelStatus> {
        let (index, pool) = (self.store.index(), self.pool.status());
        let model = index.models().iter().find(|model| model.name == name)?;
        Some(self.state_of(model, &index, &pool))
    }

    fn state_of(&self, model: &StoredModel, index: &ModelIndex, pool: &PoolStatus) -> ModelStatus {
        let resident = pool.get(&model.name);
        let mut status = status(model, resident, pool, self.pool.holds(&model.name));
        let projector = index.projector_of(model).header();
        status.tasks.extend(projector.vision.then_some("vision"));
        status.tasks.extend(projector.audio.then_some("audio"));
        status
    }

    /// When a model was last used, in seconds since 1970; `None` if it is not in memory.
    pub fn last_use_unix_s(&self, model: &str) -> Option<u64> {
        let idle = self.pool.idle_time(model)?;
        Some(unix_seconds().saturating_sub(idle.as_secs()))
    }
}

fn status(
    model: &StoredModel,
    resident: Option<&ResidentModel>,
    pool: &PoolStatus,
    holds: Vec<Hold>,
) -> ModelStatus {
    let info = resident.and_then(|resident| resident.info.as_ref());
    let kind = info.map(|info| info.kind).or(model.kind());
    ModelStatus {
        name: model.name.clone(),
        state: ModelState::of(&model.name, pool),
        size_bytes: model.size_bytes,
        memory_bytes: resident.map_or(0, |resident| resident.estimate.0),
        context_size: info.map_or(0, |info| info.context_size),
        draft: resident.and_then(|r| r.draft.clone()).unwrap_or_default(),
        tasks: kind.map_or_else(Vec::new, tasks),
        holds,
    }
}

/// The uses that a kind supports, by their names.
fn tasks(kind: ModelKind) -> Vec<&'static str> {
    let all = [
        (Use::Chat, "chat"),
        (Use::Completion, "completion"),
        (Use::Embedding, "embedding"),
        (Use::Rerank, "rerank"),
    ];
    let supported = all.into_iter().filter(|(wanted, _)| kind.can(*wanted));
    supported.map(|(_, name)| name).collect()
}
