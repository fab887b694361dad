//! An evaluation as a table with remarks.

use hearth_lab::evaluate::{Evaluation, Judged};
use hearth_lab::model::name;
use hearth_proto::Divergence;
use hearth_proto::units::Bytes;

use crate::error::Result;
use crate::output;
use crate::table::Table;

/// A perplexity with a larger relative error is not conclusive.
const FIRM: f64 = 0.02;

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
        cells.extend(divergence(evaluation.is_reference(model), text.divergence));
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
        None => "the text included in hearthctl".to_owned(),
    };
    output::note(&format!(
        "{} tokens of {which} scored, in chunks of {}; threads: {}",
        text.scored_tokens, text.chunk_tokens, evaluation.threads
    ));
    let share = text.perplexity_error / text.perplexity;
    if share > FIRM {
        output::note(&format!(
            "the text is short: the standard error of the perplexities is {:.0} %. Give a longer \
             one with --text; the divergence distinguishes quantizations with less text",
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
