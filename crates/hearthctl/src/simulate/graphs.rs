//! A simulation as four graphs: temperature, threads, duty and speed.

use hearth_lab::graphs::{Colour, Graph, Graphs, Line};
use hearth_policy::simulator::{Row, Trace};

use crate::error::Result;

/// More points than a screen has columns would only enlarge the file.
const POINTS: usize = 900;

/// What the lines show.
const LEGEND: [(Colour, &str); 3] = [
    (Colour::Subject, "with the governor"),
    (Colour::Comparison, "firmware only"),
    (Colour::Limit, "limit"),
];

/// Plots the run under the governor and, as thinner lines, the one without.
pub fn svg(title: &str, governed: &Trace, firmware: &Trace) -> Result<String> {
    let minutes = minutes(governed);
    let governed_line = |value: fn(&Row) -> f64| Line {
        points: points(governed, value),
        colour: Colour::Subject,
        width: 2,
    };
    let both = |value: fn(&Row) -> f64| {
        let firmware_line = Line {
            points: points(firmware, value),
            colour: Colour::Comparison,
            width: 1,
        };
        vec![firmware_line, governed_line(value)]
    };
    let graphs = Graphs {
        title,
        legend: &LEGEND,
        minutes,
        graphs: vec![
            temperature(both(|row| row.celsius), governed.limit.celsius(), minutes),
            Graph {
                title: "threads",
                range: 0.0..f64::from(governed.threads_max) + 0.5,
                lines: vec![governed_line(|row| f64::from(row.threads))],
            },
            Graph {
                title: "computing, %",
                range: 0.0..108.0,
                lines: vec![governed_line(|row| f64::from(row.duty.0) / 10.0)],
            },
            Graph {
                title: "tokens/s",
                range: 0.0..governed.full_tokens_per_s * 1.1,
                lines: both(|row| row.tokens_per_s),
            },
        ],
    };
    Ok(graphs.svg()?)
}

/// The temperatures with their limit.
fn temperature(mut lines: Vec<Line>, limit: f64, minutes: f64) -> Graph {
    let values = || {
        let points = lines.iter().flat_map(|line| &line.points);
        points.map(|(_, value)| *value)
    };
    let hottest = values().fold(limit, f64::max);
    let coldest = values().fold(limit - 15.0, f64::min);
    lines.push(Line {
        points: vec![(0.0, limit), (minutes, limit)],
        colour: Colour::Limit,
        width: 1,
    });
    Graph {
        title: "temperature, °C",
        range: coldest - 2.0..hottest + 2.0,
        lines,
    }
}

/// The length of a run in minutes; never zero, which an axis cannot show.
fn minutes(trace: &Trace) -> f64 {
    let last = trace.rows.last().map_or(0.0, |row| row.at.as_secs_f64());
    (last / 60.0).max(1.0)
}

fn points(trace: &Trace, value: fn(&Row) -> f64) -> Vec<(f64, f64)> {
    let every = trace.rows.len().div_ceil(POINTS).max(1);
    let rows = trace.rows.iter().step_by(every);
    rows.map(|row| (row.at.as_secs_f64() / 60.0, value(row)))
        .collect()
}
