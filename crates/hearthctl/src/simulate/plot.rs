//! A simulation as four stacked graphs in SVG.

use hearth_policy::simulator::{Row, Trace};
use plotters::prelude::*;

use crate::draw::{self, Area, Drawn, FONT, TEXT};

const SIZE: (u32, u32) = (920, 860);
/// More points than a screen has columns would only enlarge the file.
const POINTS: usize = 900;
const OURS: RGBColor = draw::BLUE;
const FIRMWARE: RGBColor = draw::ORANGE;
const LIMIT: RGBColor = draw::RED;

/// One line of a graph: its points, colour and width.
type Line = (Vec<(f64, f64)>, RGBColor, u32);

/// Plots the run under the governor and, as thinner lines, the one without.
pub fn svg(title: &str, governed: &Trace, firmware: &Trace) -> Drawn<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let root = root.titled(title, (FONT, 20).into_font().color(&TEXT))?;
        let (key, root) = root.split_vertically(26);
        legend(&key)?;
        let minutes = minutes(governed);
        let limit = governed.limit.celsius();
        let both = |value: fn(&Row) -> f64| {
            vec![
                (points(firmware, value), FIRMWARE, 1),
                (points(governed, value), OURS, 2),
            ]
        };
        let mut celsius = both(|row| row.celsius);
        let hottest = celsius.iter().flat_map(|(points, ..)| points);
        let hottest = hottest.map(|(_, y)| *y).fold(limit, f64::max);
        let coldest = celsius.iter().flat_map(|(points, ..)| points);
        let coldest = coldest.map(|(_, y)| *y).fold(limit - 15.0, f64::min);
        celsius.push((vec![(0.0, limit), (minutes, limit)], LIMIT, 1));
        let threads = vec![(points(governed, |row| f64::from(row.threads)), OURS, 2)];
        let duty = vec![(
            points(governed, |row| f64::from(row.duty.0) / 10.0),
            OURS,
            2,
        )];
        let speed = both(|row| row.tokens_per_s);
        let graphs = [
            ("temperature, °C", coldest - 2.0..hottest + 2.0, celsius),
            (
                "threads",
                0.0..f64::from(governed.threads_max) + 0.5,
                threads,
            ),
            ("computing, %", 0.0..108.0, duty),
            ("tokens/s", 0.0..governed.full_tokens_per_s * 1.1, speed),
        ];
        let (top, rest) = root.split_vertically(300);
        let areas = std::iter::once(top).chain(rest.split_evenly((3, 1)));
        for (area, (name, range, lines)) in areas.zip(graphs) {
            graph(&area, name, minutes, range, lines)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn legend(area: &Area) -> Drawn {
    let entries = [
        (OURS, "with the governor"),
        (FIRMWARE, "firmware only"),
        (LIMIT, "limit"),
    ];
    let mut x = 70;
    for (colour, name) in entries {
        area.draw(&PathElement::new(
            vec![(x, 12), (x + 24, 12)],
            colour.stroke_width(2),
        ))?;
        area.draw(&Text::new(
            name,
            (x + 32, 5),
            (FONT, 14).into_font().color(&TEXT),
        ))?;
        x += 200;
    }
    Ok(())
}

fn graph(
    area: &Area,
    name: &str,
    minutes: f64,
    range: std::ops::Range<f64>,
    lines: Vec<Line>,
) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(28)
        .margin_top(6)
        .x_label_area_size(26)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..minutes, range)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(TEXT.mix(0.25))
        .axis_style(TEXT)
        .label_style((FONT, 12, &TEXT))
        .axis_desc_style((FONT, 13, &TEXT))
        .x_labels(12)
        .y_labels(6)
        .x_label_formatter(&|minute| format!("{minute:.0} min"))
        .y_label_formatter(&|y| format!("{}", (y * 10.0).round() / 10.0))
        .y_desc(name)
        .draw()?;
    for (points, colour, width) in lines {
        chart.draw_series(LineSeries::new(points, colour.stroke_width(width)))?;
    }
    Ok(())
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
