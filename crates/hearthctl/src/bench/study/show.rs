//! The study's results, as text and as JSON.

use serde_json::{Map, Value, json};

use super::result::{METRICS, Measured, Metric};
use super::stats::Summary;
use super::{AT_LENGTH, FORMS, Form, QUESTIONS};
use crate::args::{BenchStudyArgs, Reset};
use crate::error::{CtlError, Result};
use crate::output;
use crate::table::Table;

/// A description of the study in one line.
pub fn title(args: &BenchStudyArgs) -> String {
    let length = match args.tokens {
        Some(tokens) => format!("answers of {tokens} tokens"),
        None => "answers as long as the model makes them".to_owned(),
    };
    let reset = match args.reset {
        Reset::None => "nothing reset",
        Reset::Prompt => "a new conversation each time",
        Reset::Unload => "model unloaded before each run",
    };
    format!("{} runs, {length}, {reset}", args.runs)
}

/// Prints the table with its notes, or the JSON document.
pub fn print(as_json: bool, args: &BenchStudyArgs, servers: &[Measured]) -> Result {
    if as_json {
        return output::json(&document(args, servers));
    }
    output::note(&format!(
        "{}; medians, response also mean ± deviation",
        title(args)
    ));
    table(servers).print()?;
    for measured in servers {
        let name = &measured.server.name;
        for note in &measured.notes {
            output::note(&format!("{name}: {note}"));
        }
        if let Some(note) = shorter(args, measured) {
            output::note(&format!("{name}: {note}"));
        }
        for failure in &measured.failures {
            let run = match failure.run {
                0 => String::new(),
                run => format!(", run {run}"),
            };
            output::note(&format!("{name}: {}{run}: {}", failure.at, failure.message));
        }
    }
    Ok(())
}

/// Fails if any run failed; called after everything was printed.
pub fn verdict(servers: &[Measured]) -> Result {
    let failed: Vec<&str> = servers
        .iter()
        .filter(|measured| !measured.failures.is_empty())
        .map(|measured| measured.server.name.as_str())
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => {
            let first = servers
                .iter()
                .find_map(|measured| measured.failures.first());
            let why = first
                .map(|failure| failure.message.as_str())
                .unwrap_or_default();
            Err(CtlError::service(
                "StudyIncomplete",
                format!("runs failed, see above: {}: {why}", failed.join(", ")),
            ))
        }
    }
}

fn table(servers: &[Measured]) -> Table {
    let headings = [
        "PROMPTS", "SERVER", "RESPONSE", "MEAN", "FIRST", "TOKENS/S", "OVERALL", "TOKENS", "CPU",
        "MEMORY", "PEAK", "TEMP",
    ];
    let mut table = Table::new(&headings, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for form in FORMS {
        for measured in servers {
            let [
                response,
                first,
                speed,
                overall,
                tokens,
                cpu,
                average,
                peak,
                celsius,
            ] = METRICS
                .each_ref()
                .map(|metric| measured.summary(form, metric));
            let mean = response.map_or("failed".to_owned(), |s| {
                format!("{} ± {}", seconds(s.mean), seconds(s.deviation))
            });
            let cell = |summary: Option<Summary>, show: &dyn Fn(f64) -> String| {
                summary.map_or_else(|| "-".to_owned(), |s| show(s.median))
            };
            let whole = |unit: &'static str| move |value: f64| format!("{value:.0}{unit}");
            table.row(vec![
                form.name().to_owned(),
                measured.server.name.clone(),
                cell(response, &seconds),
                mean,
                cell(first, &seconds),
                cell(speed, &|value| format!("{value:.1}")),
                cell(overall, &|value| format!("{value:.1}")),
                cell(tokens, &whole("")),
                cell(cpu, &whole(" %")),
                cell(average, &whole(" MiB")),
                cell(peak, &whole(" MiB")),
                cell(celsius, &whole(" °C")),
            ]);
        }
    }
    table
}

/// Milliseconds if seconds would need many digits.
fn seconds(value: f64) -> String {
    if value < 1.0 {
        format!("{:.1} ms", value * 1000.0)
    } else {
        format!("{value:.2} s")
    }
}

/// Notes answers that are shorter than requested.
fn shorter(args: &BenchStudyArgs, measured: &Measured) -> Option<String> {
    let wanted = f64::from(args.tokens?);
    let metric = METRICS.iter().find(|metric| metric.key == "tokens")?;
    let mean = measured.summary(Form::One, metric)?.mean;
    (mean < wanted - 1.0).then(|| {
        format!(
            "its answers had {mean:.0} of {wanted:.0} tokens: it ends them by itself, compare \
             tokens/s only"
        )
    })
}

fn document(args: &BenchStudyArgs, servers: &[Measured]) -> Value {
    let servers: Vec<Value> = servers.iter().map(|m| server(args, m)).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "runs": args.runs,
        "reset": args.reset,
        "answer_tokens": args.tokens,
        "questions": QUESTIONS,
        "added_to_each_question": args.tokens.map(|_| AT_LENGTH),
        "servers": servers,
    })
}

fn server(args: &BenchStudyArgs, measured: &Measured) -> Value {
    let mut notes = measured.notes.clone();
    notes.extend(shorter(args, measured));
    let forms: Map<String, Value> = FORMS
        .into_iter()
        .map(|form| {
            let summary = |metric: &Metric| {
                let summary = measured.summary(form, metric)?;
                Some((metric.key.to_owned(), json!(summary)))
            };
            let summaries: Map<String, Value> = METRICS.iter().filter_map(summary).collect();
            let runs = measured.runs(form);
            let form_of_it = json!({
                "summary": summaries,
                "answer": runs.first().map(|run| &run.text),
                "runs": runs,
            });
            (form.name().replace(' ', "_"), form_of_it)
        })
        .collect();
    json!({
        "name": measured.server.name,
        "address": measured.server.address.to_string(),
        "api": measured.server.api,
        "model": measured.model,
        "pid": measured.pid,
        "notes": notes,
        "failures": measured.failures,
        "forms": forms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_in_milliseconds() {
        assert_eq!(seconds(0.01234), "12.3 ms");
        assert_eq!(seconds(12.345), "12.35 s");
    }

    #[test]
    fn a_failure_fails_the_command() {
        let mut failing = Measured::new("a=http://localhost:1".parse().unwrap());
        assert!(verdict(std::slice::from_ref(&failing)).is_ok());
        failing.failed("warm-up", 0, "too hot".into());
        let error = verdict(&[failing]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("a: too hot"), "{error}");
    }
}
