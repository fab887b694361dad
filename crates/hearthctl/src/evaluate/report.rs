//! An evaluation as a table with remarks.

use std::path::Path;

use hearth_proto::Divergence;
use hearth_proto::units::Bytes;

use super::{Evaluation, Judged};
use crate::error::Result;
use crate::output;
use crate::table::Table;

/// A perplexity with a larger relative error is not conclusive.
const FIRM: f64 = 0.02;

/// A file's name without `.gguf`.
pub fn name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Bits of a file per weight of its model.
pub fn bits_per_weight(file_bytes: u64, parameters: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    let (bits, weights) = (file_bytes as f64 * 8.0, parameters.max(1) as f64);
    bits / weights
}

/// Prints the report.
pub fn show(evaluation: &Evaluation) -> Result {
    let models = &evaluation.models;
    let any = |has: fn(&Judged) -> bool| models.iter().any(has);
    let per_byte = any(|m| m.result.text.no_divergence.is_some());
    let questions = any(|m| m.result.accuracy.is_some());
    let speed = any(|m| m.speed.is_some());
    let mut headings = vec!["MODEL", "SIZE", "BITS/WEIGHT", "PERPLEXITY"];
    if per_byte {
        headings.push("PER BYTE");
    }
    headings.extend(["KL DIVERGENCE", "SAME TOKEN"]);
    if questions {
        headings.push("RIGHT");
    }
    if speed {
        headings.extend(["MEMORY", "PREFILL/S", "DECODE/S"]);
    }
    let mut table = Table::new(&headings, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for model in models {
        let text = &model.result.text;
        let mut cells = vec![
            name(&model.path),
            Bytes(model.file_bytes).to_string(),
            format!("{:.2}", model.bits_per_weight),
            with_error(text.perplexity, text.perplexity_error),
        ];
        if per_byte {
            cells.push(format!("{:.4}", text.byte_perplexity));
        }
        cells.extend(divergence(
            model.path == evaluation.reference,
            text.divergence,
        ));
        if questions {
            let accuracy = model.result.accuracy.as_ref();
            cells.push(accuracy.map_or_else(String::new, |a| format!("{}/{}", a.right, a.of)));
        }
        if let Some(speed) = &model.speed {
            cells.extend([
                Bytes(speed.resident_bytes).to_string(),
                format!("{:.1}", speed.prefill_tokens_per_s),
                format!("{:.1}", speed.decode_tokens_per_s),
            ]);
        }
        table.row(cells);
    }
    table.print()?;
    for model in models {
        if let Some(why) = &model.result.text.no_divergence {
            let name = name(&model.path);
            output::note(&format!("{name} has no divergence: {why}"));
        }
    }
    remarks(evaluation);
    Ok(())
}

fn remarks(evaluation: &Evaluation) {
    let Some(first) = evaluation.models.first() else {
        return;
    };
    let text = &first.result.text;
    let which = match &evaluation.text {
        Some(path) => path.display().to_string(),
        None => "the text that comes with hearthctl".to_owned(),
    };
    output::note(&format!(
        "{} tokens of {which} scored, in pieces of {}; threads: {}",
        text.scored_tokens, text.chunk_tokens, evaluation.threads
    ));
    let share = text.perplexity_error / text.perplexity;
    if share > FIRM {
        output::note(&format!(
            "the text is short: the perplexities are known to {:.0} % only. Give a longer one \
             by --text; differences between quantizations show in the divergence",
            share * 100.0
        ));
    }
}

/// Divergence and agreement, as cells of the table.
fn divergence(is_reference: bool, divergence: Option<Divergence>) -> [String; 2] {
    match divergence {
        Some(d) => [
            format!("{:.5} ± {:.5}", d.mean, d.error),
            format!(
                "{:.1} ± {:.1} %",
                d.agreement * 100.0,
                d.agreement_error * 100.0
            ),
        ],
        None if is_reference => ["reference".to_owned(), String::new()],
        None => ["-".to_owned(), "-".to_owned()],
    }
}

/// Formats a value with the digits that are significant given its error.
fn with_error(value: f64, error: f64) -> String {
    let digits = if value < 100.0 { 3 } else { 1 };
    format!("{value:.digits$} ± {error:.digits$}")
}
