//! `advise`: selects one of several quantizations of a model, and a context.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use hearth_lab::advise::{Advice, Advise, Candidate, NoChoice};
use hearth_lab::evaluate::Evaluation;
use hearth_lab::model::name;
use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use hearth_sensors::Sensors;
use serde_json::json;

use crate::error::{CtlError, Result};
use crate::fit::{find, memory};
use crate::output;
use crate::progress::Progress;
use crate::table::Table;

#[derive(Debug, Args)]
pub struct AdviseArgs {
    /// GGUF files of one model in several types, or names of installed models.
    #[arg(value_name = "MODEL", required_unless_present = "from")]
    pub models: Vec<String>,
    /// Read the figures from this file, written by `evaluate --json`, and measure
    /// nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    pub from: Option<PathBuf>,
    /// Context in tokens; the training context of the model, at most 4096, if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Memory limit in MiB; the memory that is available now if omitted.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
    /// Exclude files that generate fewer tokens per second than this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub min_speed: Option<u32>,
}

/// `hearthctl advise`.
pub async fn run(as_json: bool, args: &AdviseArgs) -> Result {
    let evaluation = args.from.as_deref().map(read).transpose()?;
    let models: Vec<PathBuf> = match &evaluation {
        Some(evaluation) => evaluation.models.iter().map(|m| m.path.clone()).collect(),
        None => args.models.iter().map(|m| find(m)).collect::<Result<_>>()?,
    };
    let sensors = Sensors::new("/");
    let advise = Advise {
        models,
        evaluation,
        context: args.context,
        budget: memory(&sensors, args.memory)?,
        threads: sensors.threads_max(),
        min_speed: args.min_speed,
    };
    let progress = Progress::new("", as_json);
    let advice = advise.run(&progress).await?;
    drop(progress);
    if as_json {
        output::json(&json!(advice))?;
    } else {
        show(&advice)?;
        if let Some(warning) = &advice.warning {
            output::note(warning);
        }
    }
    match &advice.choice {
        Ok(_) => Ok(()),
        Err(none @ NoChoice::OutOfMemory { .. }) => Err(CtlError::service(
            FailureKind::OutOfMemory,
            none.to_string(),
        )),
        Err(none @ NoChoice::TooSlow { .. }) => Err(CtlError::Result {
            kind: "TooSlow",
            message: none.to_string(),
        }),
    }
}

/// Reads what `evaluate --json` wrote.
fn read(path: &Path) -> Result<Evaluation> {
    let text = fs::read_to_string(path).map_err(|source| CtlError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|e| {
        CtlError::Usage(format!(
            "{} was not written by `hearthctl evaluate --json`: {e}",
            path.display()
        ))
    })
}

fn show(advice: &Advice) -> Result {
    let headings = [
        "MODEL",
        "SIZE",
        "MEMORY",
        "CONTEXT",
        "KEYS",
        "KL DIVERGENCE",
        "DECODE/S",
        "",
    ];
    let mut table = Table::new(&headings, &[1, 2, 3, 5, 6]);
    let choice = advice.choice.as_ref().ok();
    for (n, model) in advice.models.iter().enumerate() {
        table.row(cells(model, choice.is_some_and(|c| c.index == n)));
    }
    table.print()?;
    if let Some(choice) = choice
        && let Some(model) = advice.models.get(choice.index)
    {
        output::line(&format!("{}: {}.", name(&model.path), choice.reason))?;
        if !model.note.is_empty() {
            output::line(&model.note)?;
        }
    }
    Ok(())
}

fn cells(model: &Candidate, is_chosen: bool) -> Vec<String> {
    let (context, keys) = if model.fits {
        (model.context.to_string(), model.kv_type.as_str())
    } else {
        ("-".to_owned(), "-")
    };
    let mark = match (model.fits, is_chosen) {
        (false, _) => "does not fit",
        (true, true) => "<- recommended",
        (true, false) => "",
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        name(&model.path),
        Bytes(model.file_bytes).to_string(),
        Bytes(model.total_bytes).to_string(),
        context,
        keys.to_owned(),
        or_dash(model.divergence_text()),
        or_dash(model.decode_tokens_per_s.map(|s| format!("{s:.1}"))),
        mark.to_owned(),
    ]
}
