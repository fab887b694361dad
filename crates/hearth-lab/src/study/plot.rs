//! The study as bar charts in SVG: a chart for each figure, a bar for each server and
//! form.

use plotters::prelude::*;

use super::results::{METRICS, Measured, Metric};
use super::settings::{FORMS, Form};
use super::stats::Summary;
use crate::plot::{Area, BLUE as FIRST, Drawn, FONT, ORANGE as SECOND, TEXT};

/// Keys of the figures that are plotted.
const DRAWN: [&str; 6] = [
    "response_s",
    "first_token_s",
    "tokens_per_s",
    "cpu_percent",
    "memory_average_mib",
    "memory_peak_mib",
];
/// Charts in a row.
const COLUMNS: usize = 2;
const WIDTH: u32 = 920;
/// Pixels: above the charts, of a chart's title, of a bar with its gap, between servers.
const TOP: u32 = 64;
const TITLE: i32 = 28;
const BAR: i32 = 16;
const GAP: i32 = 8;
/// Pixels for the servers' names and for the figures after the bars.
const NAMES: i32 = 130;
const FIGURES: i32 = 80;

/// Plots all servers that have runs.
pub fn svg(title: &str, servers: &[Measured]) -> Drawn<String> {
    let forms: Vec<Form> = FORMS
        .into_iter()
        .filter(|form| servers.iter().any(|m| !m.runs(*form).is_empty()))
        .collect();
    let rows = DRAWN.len().div_ceil(COLUMNS);
    let height = TITLE + group(&forms) * i32::try_from(servers.len())? + 16;
    let size = (WIDTH, TOP + u32::try_from(height)? * u32::try_from(rows)?);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let (head, body) = root.split_vertically(TOP);
        write(&head, title, (WIDTH.cast_signed() / 2, 8), 18, "middle")?;
        legend(&head, &forms)?;
        let metrics = METRICS.iter().filter(|metric| DRAWN.contains(&metric.key));
        for (area, metric) in body.split_evenly((rows, COLUMNS)).iter().zip(metrics) {
            graph(area, metric, &forms, servers)?;
        }
        root.present()?;
    }
    Ok(text)
}

/// Height of one server's bars.
fn group(forms: &[Form]) -> i32 {
    BAR * i32::try_from(forms.len().max(1)).unwrap_or(1) + GAP
}

fn colour(form: Form) -> RGBColor {
    match form {
        Form::One => FIRST,
        Form::Three => SECOND,
    }
}

fn write(area: &Area, text: &str, at: (i32, i32), size: i32, anchor: &str) -> Drawn {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let side = match anchor {
        "middle" => HPos::Center,
        "end" => HPos::Right,
        _ => HPos::Left,
    };
    let style = (FONT, size).into_font().color(&TEXT);
    area.draw(&Text::new(
        text.to_owned(),
        at,
        style.pos(Pos::new(side, VPos::Top)),
    ))?;
    Ok(())
}

fn legend(area: &Area, forms: &[Form]) -> Drawn {
    let mut x = NAMES + 10;
    for form in forms {
        let swatch = [(x, 40), (x + 14, 52)];
        area.draw(&Rectangle::new(swatch, colour(*form).filled()))?;
        write(area, form.name(), (x + 20, 40), 13, "start")?;
        x += 150;
    }
    write(
        area,
        "median; the line is ± the deviation",
        (x, 40),
        13,
        "start",
    )
}

fn graph(area: &Area, metric: &Metric, forms: &[Form], servers: &[Measured]) -> Drawn {
    write(area, metric.title, (NAMES + 10, 6), 14, "start")?;
    let summary = |measured: &Measured, form: Form| measured.summary(form, metric);
    let all = servers
        .iter()
        .flat_map(|m| forms.iter().filter_map(move |f| summary(m, *f)));
    let most = all.map(|s| s.median + s.deviation).fold(0.0, f64::max);
    let room = f64::from(area.dim_in_pixel().0.cast_signed() - NAMES - FIGURES - 20);
    // Whole pixels, at most the width of the chart.
    #[expect(clippy::cast_possible_truncation, reason = "at most the graph's width")]
    let pixels = |value: f64| NAMES + 10 + (value.max(0.0) / most.max(1e-9) * room) as i32;
    for (n, measured) in servers.iter().enumerate() {
        let top = TITLE + group(forms) * i32::try_from(n)?;
        let middle = top + (group(forms) - GAP) / 2 - 6;
        write(
            area,
            &shortened(&measured.server.name),
            (NAMES, middle),
            13,
            "end",
        )?;
        for (form, at) in forms.iter().zip(0..) {
            let top = top + BAR * at;
            let middle = top + BAR / 2 - 1;
            let Some(Summary {
                median, deviation, ..
            }) = summary(measured, *form)
            else {
                write(area, "no figure", (NAMES + 14, top), 12, "start")?;
                continue;
            };
            let bar = [(NAMES + 10, top), (pixels(median), top + BAR - 3)];
            area.draw(&Rectangle::new(bar, colour(*form).filled()))?;
            let (low, high) = (pixels(median - deviation), pixels(median + deviation));
            let line = vec![(low, middle), (high, middle)];
            area.draw(&PathElement::new(line, TEXT.stroke_width(2)))?;
            write(
                area,
                &figure(median),
                (high.max(pixels(median)) + 6, top),
                12,
                "start",
            )?;
        }
    }
    Ok(())
}

/// About three significant digits: runs vary by more than that.
fn figure(value: f64) -> String {
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Truncates a name to the available width.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 18 {
        return name.to_owned();
    }
    name.chars().take(17).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::results::Run;
    use super::super::server::Server;
    use super::super::wire::Api;
    use super::*;

    #[test]
    fn bars_for_those_that_have_runs() {
        let server = |name: &str| {
            let address = "http://localhost:1".parse().unwrap();
            Measured::new(Server::new(name, address, Api::OpenAi))
        };
        let mut servers = [server("a < b & c"), server("broken")];
        for response_s in [1.0, 2.0, 4.0] {
            let run = Run {
                response_s,
                cpu_percent: Some(150.0),
                ..Run::default()
            };
            servers[0].add(Form::One, run);
        }
        let drawn = svg("3 runs", &servers).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
        assert!(
            drawn.contains("a &lt; b &amp; c"),
            "what people write is no markup"
        );
        assert!(drawn.contains("one prompt") && !drawn.contains("three prompts"));
        // Of the other server, and of the figures that the first one's runs lack.
        assert_eq!(drawn.matches("no figure").count(), 10);
        assert!(svg("", &[]).is_ok());
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.01234, 1.234, 12.34, 1234.0].map(figure),
            ["0.0123", "1.23", "12.3", "1234"]
        );
        assert_eq!(shortened("http://localhost:11434").chars().count(), 18);
    }
}
