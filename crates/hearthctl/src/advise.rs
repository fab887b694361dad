//! `advise`: selects one of several quantizations of a model, and a context.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_lab::advise::{Advice, Advise, Candidate, NoChoice};
use hearth_lab::evaluate::Evaluation;
use hearth_lab::model::name;
use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use hearth_sensors::Sensors;
use serde_json::json;

use crate::args::AdviseArgs;
use crate::error::{CtlError, Result};
use crate::fit::{find, memory};
use crate::output;
use crate::progress::Progress;
use crate::table::Table;

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
