//! `models --fit`: the models that this board could run, installed or not.

use std::fs;
use std::path::Path;

use clap::Args;
use hearth_gguf::fit::{Budget, Fitted, NoFit, Wanted, fit};
use hearth_gguf::{Header, projector_memory};
use hearth_lab::model::header;
use hearth_proto::paths::{MODELS, MODELS_PACKAGED};
use hearth_proto::units::Bytes;
use hearth_sensors::Sensors;
use serde_json::{Value, json};

use crate::catalogue::catalogue;
use crate::error::{CtlError, Result};
use crate::fit::{available, memory, projector_of};
use crate::output;
use crate::projector;
use crate::table::Table;

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Show which models fit this board, and with which context: the installed models and
    /// those of the catalogue, which `hearthctl pull NAME` downloads. The service is not
    /// contacted.
    #[arg(long)]
    pub fit: bool,
    /// With --fit: memory limit in MiB; the memory that is available now if omitted.
    #[arg(long, value_name = "MIB", requires = "fit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
}

/// One model and its memory estimate.
struct Candidate {
    name: String,
    installed: bool,
    /// Size of its files.
    size: u64,
    quantization: String,
    /// Without its projector.
    fitted: std::result::Result<Fitted, NoFit>,
    /// Memory of its projector.
    projector: Bytes,
    /// Where it is available, its licence, what it is suited for.
    catalogue: Option<[String; 3]>,
}

/// `hearthctl models --fit`.
pub fn run(as_json: bool, args: &ModelsArgs) -> Result {
    let sensors = Sensors::new("/");
    let budget = memory(&sensors, args.memory)?;
    let fitted = |header: &Header, projector: Bytes| {
        let wanted = Wanted::default().settings(header, sensors.threads_max());
        fit(header, &wanted, budget.without(projector))
    };
    let mut candidates = Vec::new();
    for folder in [MODELS, MODELS_PACKAGED].map(Path::new) {
        candidates.extend(installed(folder, as_json, fitted));
    }
    for entry in catalogue().map_err(|e| CtlError::Unexpected(e.to_string()))? {
        let header = entry.header();
        let projector = entry.projector_header().as_ref().map(projector_memory);
        let projector = projector.unwrap_or_default();
        candidates.push(Candidate {
            fitted: fitted(&header, projector),
            projector,
            installed: false,
            size: entry.total_bytes(),
            quantization: header.quantization,
            name: entry.name,
            catalogue: Some([entry.source, entry.licence, entry.good_for]),
        });
    }
    if as_json {
        return output::json(&candidates.iter().map(|c| document(c, budget)).collect());
    }
    show(&candidates, budget)
}

/// The models in a folder, by name; none if it cannot be read.
fn installed(
    folder: &Path,
    quiet: bool,
    fitted: impl Fn(&Header, Bytes) -> std::result::Result<Fitted, NoFit>,
) -> Vec<Candidate> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            if e.kind() != std::io::ErrorKind::NotFound && !quiet {
                output::note(&format!(
                    "{}: {e}: its models are not listed",
                    folder.display()
                ));
            }
            return Vec::new();
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let candidate = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let header = header(path).ok().filter(|_| !name.starts_with('.'))?;
        // It is counted with its model.
        if header.is_projector() {
            return None;
        }
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let file = projector::beside(path);
        let projector = projector_of(path);
        Some(Candidate {
            name: name.to_owned(),
            installed: true,
            size: size(path) + file.as_deref().map_or(0, size),
            fitted: fitted(&header, projector),
            projector,
            quantization: header.quantization,
            catalogue: None,
        })
    };
    files.iter().filter_map(candidate).collect()
}

fn show(candidates: &[Candidate], budget: Budget) -> Result {
    let headings = [
        "NAME", "SIZE", "QUANT", "CONTEXT", "MEMORY", "LICENCE", "NOTES",
    ];
    let mut table = Table::new(&headings, &[1, 3, 4]);
    for candidate in candidates {
        let (context, total) = match &candidate.fitted {
            Ok(fitted) => (fitted.settings.context.to_string(), fitted.estimate.total),
            Err(no) => ("does not fit".to_owned(), no.estimate.total),
        };
        let total = Bytes(total.0 + candidate.projector.0);
        // Only the size of an installed model is exact.
        let about = if candidate.installed { "" } else { "~" };
        let [_, licence, good_for] = candidate.catalogue.clone().unwrap_or_default();
        let notes = if candidate.installed {
            "installed".to_owned()
        } else {
            good_for
        };
        table.row(vec![
            candidate.name.clone(),
            format!("{about}{}", Bytes(candidate.size)),
            candidate.quantization.clone(),
            context,
            format!("{about}{total}"),
            licence,
            notes,
        ]);
    }
    table.print()?;
    output::note(&format!(
        "{} available for a model{}; `hearthctl pull NAME` downloads one",
        budget.usable(),
        Some(available(budget))
            .filter(|a| !a.is_empty())
            .map_or(String::new(), |a| format!(" ({a})")),
    ));
    Ok(())
}

fn document(candidate: &Candidate, budget: Budget) -> Value {
    let (settings, estimate, note) = match &candidate.fitted {
        Ok(fitted) => (fitted.settings, fitted.estimate, fitted.note.clone()),
        Err(no) => (no.settings, no.estimate, no.to_string()),
    };
    let [source, licence, good_for] = candidate.catalogue.clone().unwrap_or_default();
    json!({
        "name": candidate.name,
        "installed": candidate.installed,
        "approximate": !candidate.installed,
        "size_bytes": candidate.size,
        "quantization": candidate.quantization,
        "fits": candidate.fitted.is_ok(),
        "context": settings.context,
        "kv_type": settings.kv_type.as_str(),
        "total_bytes": estimate.total.0 + candidate.projector.0,
        "usable_bytes": budget.usable().0,
        "source": source,
        "licence": licence,
        "good_for": good_for,
        "note": note,
    })
}
