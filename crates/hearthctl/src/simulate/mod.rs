//! `simulate`: the governor on a model of a board.

mod args;
mod graphs;

use std::time::Duration;

use hearth_policy::governor::Policy;
use hearth_policy::simulator::{BOARDS, Board, Control, Run, Summary, Trace, board, simulate};
use serde_json::{Value, json};

use crate::error::{CtlError, Result};
use crate::output;
use crate::table::Table;
pub use args::SimulateArgs;

/// `hearthctl simulate`.
pub fn run(as_json: bool, args: &SimulateArgs) -> Result {
    if args.list {
        return list(as_json);
    }
    let name = args.board.as_deref().unwrap_or_default();
    let Some(board) = board(name) else {
        return Err(CtlError::Usage(format!(
            "no board `{name}`: see hearthctl simulate --list"
        )));
    };
    let policy = match args.policy.as_str() {
        "throughput" => Policy::Throughput,
        "quiet" => Policy::Quiet {
            power_percent: args.power_percent,
        },
        _ => Policy::Balanced,
    };
    let trace = |control| {
        simulate(&Run {
            board,
            ambient: args.ambient,
            control,
            duration: Duration::from_secs_f64(args.hours * 3600.0),
            events: &args.events,
        })
    };
    let governed = trace(Control::Governor(policy));
    let firmware = trace(Control::FirmwareOnly);
    if let Some(path) = &args.plot {
        let title = format!("{}, {} °C air, {}", board.name, args.ambient, args.policy);
        let svg = graphs::svg(&title, &governed, &firmware)?;
        output::file(path, svg.as_bytes())?;
    }
    if as_json {
        return output::json(&document(board, args, &governed, &firmware));
    }
    show(board, args, &governed, &firmware)
}

fn list(as_json: bool) -> Result {
    if as_json {
        let boards = BOARDS.map(|b| json!({ "name": b.name, "about": b.about }));
        return output::json(&json!(boards));
    }
    let mut table = Table::new(&["BOARD", "DESCRIPTION"], &[]);
    for board in &BOARDS {
        table.row(vec![board.name.to_owned(), board.about.to_owned()]);
    }
    table.print()
}

fn show(board: &Board, args: &SimulateArgs, governed: &Trace, firmware: &Trace) -> Result {
    output::line(&format!(
        "{}: {}; {} °C air, {} h of continuous decoding, limit {}",
        board.name, board.about, args.ambient, args.hours, governed.limit
    ))?;
    let headings = [
        "POLICY", "TOKENS", "SHARE", "HIGHEST", "SETTLED", "SLOWED", "CHANGES",
    ];
    let mut table = Table::new(&headings, &[1, 2, 3, 4, 5, 6]);
    let (ours, theirs) = (governed.summary(), firmware.summary());
    for (name, s) in [(args.policy.as_str(), &ours), ("firmware only", &theirs)] {
        table.row(vec![
            name.to_owned(),
            format!("{:.0}", s.tokens),
            format!("{:.1} %", s.share * 100.0),
            format!("{:.1} °C", s.celsius_max),
            format!("{:.1} °C", s.celsius_settled),
            format!("{:.0} %", s.slowed * 100.0),
            s.thread_changes.to_string(),
        ]);
    }
    table.print()?;
    output::line(&verdict(&ours, &theirs))?;
    if let Some(last) = governed.rows.last().filter(|row| !row.reason.is_empty()) {
        output::line(&format!("At the end: {}", last.reason))?;
    }
    Ok(())
}

/// States which of the two yields more tokens.
fn verdict(ours: &Summary, firmware: &Summary) -> String {
    let kelvin = firmware.celsius_settled - ours.celsius_settled;
    let ratio = firmware.tokens / ours.tokens.max(f64::MIN_POSITIVE);
    if ours.tokens <= 0.0 {
        "Too hot to compute anything: this board needs better cooling.".to_owned()
    } else if ratio > 1.005 {
        format!(
            "The firmware alone yields {:.0} % more tokens, {kelvin:.1} K hotter.",
            (ratio - 1.0) * 100.0
        )
    } else if ratio < 0.995 {
        format!(
            "The firmware alone yields {:.0} % fewer tokens, {kelvin:.1} K hotter.",
            (1.0 - ratio) * 100.0
        )
    } else {
        "The firmware alone yields as many tokens.".to_owned()
    }
}

fn document(board: &Board, args: &SimulateArgs, governed: &Trace, firmware: &Trace) -> Value {
    let summary = |trace: &Trace| {
        let s = trace.summary();
        json!({
            "share": s.share,
            "tokens": s.tokens,
            "celsius_max": s.celsius_max,
            "celsius_settled": s.celsius_settled,
            "thread_changes": s.thread_changes,
            "journal_lines": s.reasons,
            "slowed": s.slowed,
        })
    };
    json!({
        "board": board.name,
        "ambient_celsius": args.ambient,
        "hours": args.hours,
        "policy": args.policy,
        "limit_celsius": governed.limit.celsius(),
        "governed": summary(governed),
        "firmware_only": summary(firmware),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_compares_tokens() {
        let summary = |tokens, celsius_settled| Summary {
            share: 0.5,
            tokens,
            celsius_max: 80.0,
            celsius_settled,
            thread_changes: 0,
            reasons: 0,
            slowed: 0.0,
        };
        let ours = summary(1000.0, 78.5);
        for (firmware, text) in [
            (
                summary(1500.0, 83.5),
                "The firmware alone yields 50 % more tokens, 5.0 K hotter.",
            ),
            (
                summary(900.0, 83.5),
                "The firmware alone yields 10 % fewer tokens, 5.0 K hotter.",
            ),
            (
                summary(1001.0, 78.5),
                "The firmware alone yields as many tokens.",
            ),
        ] {
            assert_eq!(verdict(&ours, &firmware), text);
        }
        assert!(verdict(&summary(0.0, 90.0), &ours).contains("cooling"));
    }

    #[test]
    fn the_plot_is_well_formed_and_has_both_runs() {
        let run = |control| {
            simulate(&Run {
                board: board("pi4-poor").unwrap(),
                ambient: 25.0,
                control,
                duration: Duration::from_hours(1),
                events: &[],
            })
        };
        let governed = run(Control::Governor(Policy::Balanced));
        let svg = graphs::svg("a < b & c", &governed, &run(Control::FirmwareOnly)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("a &lt; b &amp; c"), "titles are escaped");
        // Lines: temperature and speed twice, threads and duty once, and the limit.
        assert!(svg.matches("<polyline").count() >= 7);
        assert!(svg.len() < 400_000, "{} bytes", svg.len());
        let empty = Trace {
            rows: Vec::new(),
            ..governed
        };
        assert!(graphs::svg("", &empty, &empty).is_ok());
    }
}
