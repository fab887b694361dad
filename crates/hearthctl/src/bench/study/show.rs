//! The study's results as a table with notes.

use hearth_lab::study::{FORMS, METRICS, Measured, Study, Summary};

use crate::error::{CtlError, Result};
use crate::output;
use crate::table::Table;

/// Prints the table with its notes.
pub fn print(study: &Study) -> Result {
    output::note(&format!(
        "{}; medians, response also mean ± deviation",
        study.settings()
    ));
    table(study.servers()).print()?;
    for measured in study.servers() {
        let name = &measured.server.name;
        for note in measured.all_notes(study.settings()) {
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
            Err(CtlError::Result {
                kind: "StudyIncomplete",
                message: format!("runs failed, see above: {}: {why}", failed.join(", ")),
            })
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

#[cfg(test)]
mod tests {
    use hearth_lab::study::{Api, Server};

    use super::*;

    #[test]
    fn short_times_are_in_milliseconds() {
        assert_eq!(seconds(0.01234), "12.3 ms");
        assert_eq!(seconds(12.345), "12.35 s");
    }

    #[test]
    fn a_failure_fails_the_command() {
        let mut failing = Measured::new(Server::new(
            "a",
            "http://localhost:1".parse().unwrap(),
            Api::OpenAi,
        ));
        assert!(verdict(std::slice::from_ref(&failing)).is_ok());
        failing.add_failure("warm-up", 0, "too hot".into());
        let error = verdict(&[failing]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("a: too hot"), "{error}");
    }
}
