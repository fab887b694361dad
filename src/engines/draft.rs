//! The draft model that is loaded with a model (`model.draft`), and its part of the memory. It
//! only makes answers faster: a model is loaded without it where memory is short, and it is
//! released first.

use hearth_gguf::Header;
use hearth_gguf::fit::{Repack, Settings, Wanted, estimate, memory_max};
use hearth_proto::units::Bytes;
use hearth_proto::{DraftFile, EngineShape, ModelRef, Use};

use super::load::{Admitted, Fit};
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
        memory: memory(header, &settings),
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

fn memory(header: &Header, settings: &Settings) -> Bytes {
    estimate(header, settings).total
}

/// Adds a draft model to what is loaded.
pub(super) fn add(admitted: &mut Admitted, draft: Draft) {
    admitted.estimate.0 = admitted.estimate.0.saturating_add(draft.memory.0);
    if let Some(most) = &mut admitted.request.memory_max {
        *most = most.saturating_add(draft.max.0);
    }
    admitted.draft = Some(LoadedDraft {
        name: draft.file.name.clone(),
        memory: draft.memory,
    });
    admitted.request.draft = Some(draft.file);
}

/// Notes why a model is loaded without its draft model.
pub(super) fn note(mut fit: Fit, why: &str) -> Fit {
    if let Fit::Whole(admitted) | Fit::Reduced { admitted, .. } = &mut fit {
        admitted.add_note(why);
    }
    fit
}

/// Notes that a draft model was left out for want of memory, if the model fits without it.
pub(super) fn left_out(fit: Fit, draft: &Draft) -> Fit {
    let (name, bytes) = (&draft.file.name, draft.memory);
    let (mut admitted, missing) = match fit {
        Fit::Whole(admitted) => (admitted, Bytes(0)),
        Fit::Reduced { admitted, missing } => (admitted, missing),
        none @ Fit::None { .. } => return none,
    };
    admitted.add_note(&format!(
        "without its draft model {name} ({bytes}): memory is short"
    ));
    Fit::Reduced {
        admitted,
        missing: Bytes(missing.0.saturating_add(bytes.0)),
    }
}
