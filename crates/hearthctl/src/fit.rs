//! `fit`: how much memory a model takes, from its header alone.

use std::path::{Path, PathBuf};

use clap::Args;
use hearth_gguf::fit::{Budget, Fitted, NoFit, Wanted, budget, fit, usable_kv_type};
use hearth_gguf::projector_memory;
use hearth_lab::model::header;
use hearth_proto::paths::{MODELS, MODELS_PACKAGED};
use hearth_proto::units::Bytes;
use hearth_proto::{FailureKind, KvType};
use hearth_sensors::Sensors;
use serde_json::{Value, json};

use crate::error::{CtlError, Result};
use crate::output;
use crate::projector;
use crate::table::Table;

#[derive(Debug, Args)]
pub struct FitArgs {
    /// A GGUF file, or a name that `hearthctl models` lists.
    pub model: String,
    /// Context in tokens; the training context of the model, at most 4096, if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Type of the key cache: f16 or `q8_0`.
    #[arg(long, value_name = "TYPE", value_parser = kv_type)]
    pub kv_type: Option<KvType>,
    /// Memory limit in MiB; the memory that is available now if omitted.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
}

/// `hearthctl fit`.
pub fn run(as_json: bool, args: &FitArgs) -> Result {
    let path = find(&args.model)?;
    let header = header(&path)?;
    let mut wanted = Wanted::default();
    wanted.context = args.context.unwrap_or(wanted.context);
    wanted.kv_type = args.kv_type.unwrap_or(wanted.kv_type);
    let sensors = Sensors::new("/");
    let budget = memory(&sensors, args.memory)?;
    let wanted = wanted.settings(&header, sensors.threads_max());
    let projector = projector_of(&path);
    if usable_kv_type(&header, wanted.kv_type) != wanted.kv_type {
        output::note("this model's heads are too narrow for q8_0 keys: f16 is used");
    }
    let fitted = fit(&header, &wanted, budget.without(projector));
    if as_json {
        output::json(&document(&path, &fitted, projector, budget))?;
    } else {
        show(&fitted, projector, budget)?;
    }
    fitted
        .map(drop)
        .map_err(|no| CtlError::service(FailureKind::OutOfMemory, no.to_string()))
}

/// A budget of this many MiB, or of the memory that is available now.
pub fn memory(sensors: &Sensors, mib: Option<u64>) -> Result<Budget> {
    if let Some(mib) = mib {
        return Ok(Budget::all(Bytes::mib(mib)));
    }
    budget(&sensors.read().memory).ok_or_else(|| {
        CtlError::Usage("the system does not report available memory: give --memory".into())
    })
}

/// The memory of the projector of a model file.
pub fn projector_of(model: &Path) -> Bytes {
    let header = projector::beside(model).and_then(|path| projector::header(&path));
    header.map_or(Bytes(0), |header| projector_memory(&header))
}

fn show(fitted: &Result<Fitted, NoFit>, projector: Bytes, budget: Budget) -> Result {
    let (settings, e) = match fitted {
        Ok(fitted) => (fitted.settings, fitted.estimate),
        Err(no) => (no.settings, no.estimate),
    };
    let cache = format!(
        "context of {} tokens, {} for cached prompts, {} keys",
        settings.context,
        settings.kept,
        settings.kv_type.as_str()
    );
    let mut table = Table::new(&["PART", "MEMORY", "NOTES"], &[1]);
    let pictures = "the file beside the model, pixels, cached encodings";
    for (part, bytes, notes) in [
        ("weights", e.weights, String::new()),
        ("KV cache", e.kv, cache),
        ("compute", e.compute, String::new()),
        (
            "other",
            e.other,
            "vocabulary, tables, the process".to_owned(),
        ),
        ("projector", projector, pictures.to_owned()),
        ("total", Bytes(e.total.0 + projector.0), String::new()),
        ("available", budget.usable(), available(budget)),
    ] {
        if part == "projector" && projector.0 == 0 {
            continue;
        }
        table.row(vec![part.to_owned(), bytes.to_string(), notes]);
    }
    table.print()?;
    if let Ok(fitted) = fitted
        && !fitted.note.is_empty()
    {
        output::note(&fitted.note);
    }
    Ok(())
}

/// The available memory, and what of it is reserved; empty if nothing is.
pub fn available(budget: Budget) -> String {
    if budget.reserved.0 == 0 {
        return String::new();
    }
    format!("{} free, {} reserved", budget.free, budget.reserved)
}

fn document(
    path: &Path,
    fitted: &Result<Fitted, NoFit>,
    projector: Bytes,
    budget: Budget,
) -> Value {
    let (settings, e, note) = match fitted {
        Ok(fitted) => (fitted.settings, fitted.estimate, fitted.note.clone()),
        Err(no) => (no.settings, no.estimate, no.to_string()),
    };
    json!({
        "path": path,
        "fits": fitted.is_ok(),
        "context": settings.context,
        "kept_tokens": settings.kept,
        "kv_type": settings.kv_type.as_str(),
        "weights_bytes": e.weights.0,
        "kv_bytes": e.kv.0,
        "compute_bytes": e.compute.0,
        "other_bytes": e.other.0,
        "projector_bytes": projector.0,
        "total_bytes": e.total.0 + projector.0,
        "reclaimable_bytes": e.reclaimable.0,
        "free_bytes": budget.free.0,
        "reserved_bytes": budget.reserved.0,
        "note": note,
    })
}

/// Resolves a path, or a name in the service's folders.
pub fn find(model: &str) -> Result<PathBuf> {
    let given = PathBuf::from(model);
    if model.contains('/') || given.is_file() {
        return Ok(given);
    }
    let folders = [MODELS, MODELS_PACKAGED];
    let mut files = folders
        .iter()
        .map(|folder| Path::new(folder).join(format!("{model}.gguf")));
    files.find(|file| file.is_file()).ok_or_else(|| {
        let message = format!(
            "there is no file {model:?} and no such model in {}: give the path of a GGUF file",
            folders.join(" or ")
        );
        CtlError::service(FailureKind::ModelNotFound, message)
    })
}

/// Accepts the names that the configuration file uses.
fn kv_type(text: &str) -> Result<KvType, String> {
    serde_json::from_value(text.into()).map_err(|_| "use f16 or q8_0".to_owned())
}
