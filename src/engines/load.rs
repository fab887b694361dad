//! The load request for an engine: the configured settings, reduced if memory is short.
//! The memory of the engines that run is not free, whether they have taken it yet or not.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use hearth_gguf::fit::{
    Budget, Fitted, NoFit, Settings, Wanted, budget, estimate, fit, memory_max,
};
use hearth_gguf::{ElementType, Header, Place, Weights};
use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;
use hearth_proto::{
    AdapterFile, DiskCache, EngineShape, Failure, FailureKind, LoadRequest, ModelRef, Sampling,
};

use super::draft::{self, Draft, LoadedDraft};
use super::parts::PartId;
use super::projector::Projector;
use super::residency::Footprint;
use super::slot::FileId;
use super::{EnginePool, adapters};
use crate::board::BoardStatus;
use crate::config::Config;
use crate::models::StoredModel;

/// The load request and what was reduced for it.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) request: LoadRequest,
    /// What was reduced, and why; empty if nothing was.
    pub(super) note: String,
    /// The file that is to be loaded.
    pub(super) file: FileId,
    /// The files that are installed beside it.
    pub(super) parts: Vec<PartId>,
    /// The memory that it may take.
    pub(super) estimate: Bytes,
    /// The draft model that is loaded with it.
    pub(super) draft: Option<LoadedDraft>,
}

/// Whether a model fits into the memory that is free.
#[derive(Debug)]
pub(super) enum Fit {
    /// As configured.
    Whole(Box<Admitted>),
    /// With a smaller context or cache.
    Reduced {
        admitted: Box<Admitted>,
        /// The memory that is missing for it as configured.
        missing: Bytes,
    },
    /// Not at all.
    None {
        /// The refusal with all numbers.
        failure: Failure,
        /// The memory that is missing for the smallest settings.
        missing: Bytes,
    },
}

impl From<&Config> for Wanted {
    fn from(config: &Config) -> Self {
        Self {
            context: config.model.context,
            context_max: config.model.context_max,
            kv_type: config.model.kv_type,
            kept: Bytes::mib(u64::from(config.cache.memory_mib)),
            slots: config.engine.slots,
            engine: &EngineShape::DEFAULT,
        }
    }
}

/// The files that are loaded with a model.
#[derive(Clone, Debug)]
struct Parts {
    /// All that there are, also those that are left out.
    installed: Vec<PartId>,
    adapters: Vec<AdapterFile>,
    projector: Projector,
}

impl Parts {
    fn without_adapters(&self) -> Self {
        Self {
            adapters: Vec::new(),
            ..self.clone()
        }
    }
}

/// The load request for a model, with settings that fit the memory available now beside
/// the engines that run.
pub(super) async fn prepare(
    pool: &EnginePool,
    name: &str,
    engines: &[Footprint],
) -> Result<Fit, Failure> {
    let config = pool.shared.config.get();
    let model = pool.shared.store.find(&ModelRef::named(name)).await?;
    let index = pool.shared.store.index();
    let parts = Parts {
        installed: PartId::all(&index, &model),
        adapters: adapters::files(&index, &model.name),
        projector: Projector::of(&index, &model),
    };
    let default = pool.shared.store.default_name();
    let mut board = pool.shared.board.read().await;
    let threads = board.threads_max;
    let draft = draft::find(&config, &index, default.as_deref(), &model, threads);
    reserve(pool, &mut board.reading.memory, engines).await;
    board.reading.memory = parts.projector.without(&board.reading.memory);
    let prepared = tokio::task::spawn_blocking(move || match draft {
        Ok(None) => fit_model(&config, model, parts, &board),
        Ok(Some(draft)) => fit_with_draft(&config, model, parts, draft, &board),
        Err(why) => fit_model(&config, model, parts, &board).noted(&why),
    });
    prepared
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}

/// Takes from the free memory what engines may still take: their estimate without what they
/// have already. Mapped weights count as available to the board, but not to the cgroup that
/// has them.
async fn reserve(pool: &EnginePool, memory: &mut Memory, engines: &[Footprint]) {
    let (mut of_board, mut of_cgroup) = (0u64, 0u64);
    for engine in engines {
        let has = match engine.pid {
            Some(pid) => pool.shared.board.process_memory(pid).await,
            None => None,
        };
        let has = has.unwrap_or_default();
        of_board += engine.estimate.0.saturating_sub(has.anonymous.0);
        of_cgroup += engine.estimate.0.saturating_sub(has.resident.0);
    }
    if let Some(available) = &mut memory.available {
        available.0 = available.0.saturating_sub(of_board);
    }
    if let Some(current) = &mut memory.cgroup_current {
        current.0 = current.0.saturating_add(of_cgroup);
    }
}

/// Fits a model with its draft model, if it fits as configured beside that.
fn fit_with_draft(
    config: &Config,
    model: StoredModel,
    parts: Parts,
    draft: Draft,
    board: &BoardStatus,
) -> Fit {
    let mut beside = board.clone();
    adapters::reserve(&mut beside.reading.memory, draft.memory);
    match fit_model(config, model.clone(), parts.clone(), &beside) {
        Fit::Whole(mut admitted) => {
            draft::add(&mut admitted, draft);
            Fit::Whole(admitted)
        }
        Fit::Reduced { .. } | Fit::None { .. } => {
            let fit = fit_model(config, model, parts, board);
            fit.without(draft.memory, &draft.no_room())
        }
    }
}

/// Fits a model with its adapters; where the memory does not allow that at all, without them:
/// requests that name none are still answered.
fn fit_model(config: &Config, model: StoredModel, parts: Parts, board: &BoardStatus) -> Fit {
    let bytes = adapters::size(&parts.adapters);
    if parts.adapters.is_empty() {
        return fit_with(config, model, parts, board);
    }
    let mut beside = board.clone();
    adapters::reserve(&mut beside.reading.memory, bytes);
    let without = parts.without_adapters();
    match fit_with(config, model.clone(), parts, &beside) {
        Fit::None { .. } => {
            let without = fit_with(config, model, without, board);
            without.without(
                bytes,
                &format!("without its adapters ({bytes}): memory is short"),
            )
        }
        fit => fit,
    }
}

/// Fits a model and loads these adapters with it; their memory is not free any more.
fn fit_with(config: &Config, model: StoredModel, parts: Parts, board: &BoardStatus) -> Fit {
    let threads_max = board.threads_max;
    let (header, fitted) = match admit(config, &model, threads_max, &board.reading.memory) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let usable = refusal.budget.usable().0;
            return Fit::None {
                missing: Bytes(refusal.estimate.total.0.saturating_sub(usable).max(1)),
                failure: Failure::new(FailureKind::OutOfMemory, refusal.to_string()),
            };
        }
    };
    let missing = missing(config, &header, board);
    let mut admitted = request(config, model, parts.projector, board, &header, fitted);
    admitted.parts = parts.installed;
    adapters::add(&mut admitted, parts.adapters);
    let admitted = Box::new(admitted);
    if admitted.note.is_empty() {
        Fit::Whole(admitted)
    } else {
        Fit::Reduced { admitted, missing }
    }
}

/// The memory that is missing for a model as configured.
fn missing(config: &Config, header: &Header, board: &BoardStatus) -> Bytes {
    let wanted = Wanted::from(config).settings(header, board.threads_max);
    let needed = estimate(header, &Settings { kept: 0, ..wanted }).total;
    let usable = budget(&board.reading.memory).map_or(u64::MAX, |budget| budget.usable().0);
    Bytes(needed.0.saturating_sub(usable).max(1))
}

fn request(
    config: &Config,
    model: StoredModel,
    projector: Projector,
    board: &BoardStatus,
    header: &Header,
    fitted: Fitted,
) -> Admitted {
    let settings = fitted.settings;
    let file = file_id(&model.path);
    let request = LoadRequest {
        path: model.path,
        projector: projector.path,
        context_size: settings.context,
        kept_tokens: settings.kept,
        kv_type: settings.kv_type,
        threads_max: board.threads_max,
        slots: config.engine.slots,
        lookup_tokens: config.engine.lookup_tokens,
        memory_max: Some(
            memory_max(header, &settings)
                .0
                .saturating_add(projector.max.0),
        ),
        cache: disk_cache(config),
        adapters: Vec::new(),
        draft: None,
        limits: board.limits,
        sampling: Sampling::from(&config.sampling),
    };
    Admitted {
        request,
        note: fitted.note,
        file,
        parts: Vec::new(),
        estimate: Bytes(fitted.estimate.total.0.saturating_add(projector.memory.0)),
        draft: None,
    }
}

impl Fit {
    /// Notes something about the model, if it fits.
    fn noted(mut self, note: &str) -> Self {
        if let Self::Whole(admitted) | Self::Reduced { admitted, .. } = &mut self {
            admitted.add_note(note);
        }
        self
    }

    /// Notes that a part of this size was left out for want of memory, if the model fits
    /// without it.
    fn without(self, bytes: Bytes, note: &str) -> Self {
        let (admitted, missing) = match self.noted(note) {
            Self::Whole(admitted) => (admitted, Bytes(0)),
            Self::Reduced { admitted, missing } => (admitted, missing),
            none @ Self::None { .. } => return none,
        };
        Self::Reduced {
            admitted,
            missing: Bytes(missing.0.saturating_add(bytes.0)),
        }
    }
}

impl Admitted {
    /// Adds the memory of a part that is loaded with it: what it takes, and the most that it
    /// may allocate.
    pub(super) fn add_memory(&mut self, takes: Bytes, max: Bytes) {
        self.estimate.0 = self.estimate.0.saturating_add(takes.0);
        if let Some(most) = &mut self.request.memory_max {
            *most = most.saturating_add(max.0);
        }
    }

    /// Adds to what was reduced.
    pub(super) fn add_note(&mut self, note: &str) {
        add_note(&mut self.note, note);
    }

    /// Writes to the journal what is loaded.
    pub(super) fn log(&self, model: &str) {
        log::info!(
            model, context = self.request.context_size, kept = self.request.kept_tokens;
            "loading a model that needs about {}", self.estimate
        );
        if !self.note.is_empty() {
            log::warn!(model; "{}", self.note);
        }
    }
}

/// Adds to a note about what was reduced.
pub(super) fn add_note(notes: &mut String, note: &str) {
    if !notes.is_empty() {
        notes.push_str("; ");
    }
    notes.push_str(note);
}

/// Settings that fit, or why there are none. If the available memory is not known, everything
/// fits.
fn admit(
    config: &Config,
    model: &StoredModel,
    threads: u32,
    memory: &Memory,
) -> Result<(Arc<Header>, Fitted), NoFit> {
    let header = match &model.header {
        Ok(header) => Arc::clone(header),
        Err(_) => Arc::new(only_weights(model.size_bytes)),
    };
    let wanted = Wanted::from(config).settings(&header, threads);
    let budget = budget(memory).unwrap_or(Budget::all(Bytes(u64::MAX)));
    let fitted = fit(&header, &wanted, budget)?;
    Ok((header, fitted))
}

/// A header that cannot be read still has a known file size; the engine reports what is
/// wrong with the file.
fn only_weights(bytes: u64) -> Header {
    Header {
        weights: vec![Weights {
            place: Place::Other,
            element: ElementType::F32,
            bytes,
            in_eights: 0,
        }],
        ..Header::default()
    }
}

/// Identifies the file.
fn file_id(path: &Path) -> FileId {
    fs::metadata(path).map_or_else(
        |_| FileId::default(),
        |meta| FileId {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        },
    )
}

/// The prompt cache on disk, if its folder can be used.
fn disk_cache(config: &Config) -> Option<DiskCache> {
    let folder = &config.paths.prompts;
    if config.cache.disk_mib == 0 {
        return None;
    }
    let mut builder = DirBuilder::new();
    if let Err(error) = builder.recursive(true).mode(0o700).create(folder) {
        log::warn!(
            "the prompt cache on disk is disabled: {}: {error}",
            folder.display()
        );
        return None;
    }
    Some(DiskCache {
        folder: folder.clone(),
        max_bytes: Bytes::mib(u64::from(config.cache.disk_mib)).0,
        daily_write_bytes: Bytes::mib(u64::from(config.cache.written_per_day_mib)).0,
        min_tokens: config.cache.min_tokens,
    })
}

#[cfg(test)]
mod tests;
