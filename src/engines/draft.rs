//! The draft model that is loaded with a model (`model.draft`), and its part of the memory. It
//! only makes answers faster: a model is loaded without it where memory is short, and it is
//! released first.

use hearth_gguf::fit::{Repack, Settings, Wanted, estimate, memory_max};
use hearth_proto::units::Bytes;
use hearth_proto::{DraftFile, EngineShape, ModelRef, Use};

use super::load::Admitted;
use crate::config::Config;
use crate::models::{ModelIndex, StoredModel};

/// It computes one text at a time and keeps none.
const SHAPE: EngineShape = EngineShape {
    slots_max: 1,
    sequences_per_slot: 1,
    kept_max: 0,
    kept_tokens_max: 0,
    ..EngineShape::DEFAULT
};
/// The key of `model.draft` for the default model.
const DEFAULT: &str = "default";

/// A draft model that can be loaded.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    file: DraftFile,
    /// What it takes.
    pub(super) memory: Bytes,
    /// The most that it may allocate.
    max: Bytes,
}

impl Draft {
    /// The note that it was left out for want of memory.
    pub(super) fn no_room(&self) -> String {
        let (name, bytes) = (&self.file.name, self.memory);
        format!("without its draft model {name} ({bytes}): memory is short")
    }
}

/// What a running engine has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadedDraft {
    pub(super) name: String,
    /// Its part of the engine's estimate.
    pub(super) memory: Bytes,
}

/// The configured draft model of a model; `None` where none is configured.
///
/// # Errors
/// Why the configured one cannot be used.
pub(super) fn find(
    config: &Config,
    index: &ModelIndex,
    default: Option<&str>,
    model: &StoredModel,
    threads: u32,
) -> Result<Option<Draft>, String> {
    let drafts = &config.model.draft;
    let is_default = default == Some(model.name.as_str());
    let by_default = || drafts.get(DEFAULT).filter(|_| is_default);
    let Some(name) = drafts.get(&model.name).or_else(by_default) else {
        return Ok(None);
    };
    let refused = |why: &str| format!("without its draft model {name}: {why}");
    let draft = index.find(&ModelRef::named(name), &ModelRef::Default, Use::Completion);
    let draft = draft.map_err(|_| refused("it is not installed"))?;
    let Ok(header) = &draft.header else {
        return Err(refused("its header cannot be read"));
    };
    if draft.kind().is_some_and(|kind| !kind.can(Use::Completion)) {
        return Err(refused("it does not generate text"));
    }
    let own = model.header.as_ref().ok();
    let context = own.map_or(0, |own| Wanted::from(config).settings(own, threads).context);
    let settings = settings(context, threads);
    Ok(Some(Draft {
        file: DraftFile {
            name: name.clone(),
            path: draft.path.clone(),
        },
        memory: estimate(header, &settings).total,
        max: memory_max(header, &settings),
    }))
}

fn settings(context: u32, threads: u32) -> Settings {
    Settings {
        engine: &SHAPE,
        threads,
        repack: Repack::of_this_cpu(),
        ..Settings::plain(context)
    }
}

/// Adds a draft model to what is loaded.
pub(super) fn add(admitted: &mut Admitted, draft: Draft) {
    admitted.add_memory(draft.memory, draft.max);
    admitted.draft = Some(LoadedDraft {
        name: draft.file.name.clone(),
        memory: draft.memory,
    });
    admitted.request.draft = Some(draft.file);
}
