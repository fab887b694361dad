//! Curves over time as graphs in SVG, one above the other, with a common legend.

use std::ops::Range;

use plotters::prelude::*;

use crate::error::{LabError, Result};
use crate::plot::{self, Area, AxisStyle, Drawn, FONT, TEXT};

const SIZE: (u32, u32) = (920, 860);
/// Heights of the legend and of the first graph.
const LEGEND: u32 = 26;
const FIRST: u32 = 300;

/// Colours by what a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The subject of the plot.
    Subject,
    /// What it is compared with.
    Comparison,
    /// A limit.
    Limit,
}

/// A line of a graph.
#[derive(Clone, Debug)]
pub struct Line {
    /// Minutes, and the value.
    pub points: Vec<(f64, f64)>,
    pub colour: Colour,
    /// In pixels.
    pub width: u32,
}

/// One graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What is shown, with the unit.
    pub title: &'static str,
    /// Range of the vertical axis.
    pub range: Range<f64>,
    pub lines: Vec<Line>,
}

/// Graphs with a common horizontal axis; the first one is larger.
#[derive(Clone, Debug)]
pub struct Graphs<'a> {
    pub title: &'a str,
    /// Lines that the legend explains.
    pub legend: &'a [(Colour, &'a str)],
    /// Length of the horizontal axis; not zero.
    pub minutes: f64,
    pub graphs: Vec<Graph>,
}

impl Colour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Subject => plot::BLUE,
            Self::Comparison => plot::ORANGE,
            Self::Limit => plot::RED,
        }
    }
}

impl Graphs<'_> {
    /// The plot.
    ///
    /// # Errors
    /// `Plot`.
    pub fn svg(&self) -> Result<String> {
        self.draw().map_err(|e| LabError::Plot(e.to_string()))
    }

    fn draw(&self) -> Drawn<String> {
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            let root = root.titled(self.title, (FONT, 20).into_font().color(&TEXT))?;
            let (key, root) = root.split_vertically(LEGEND);
            legend(&key, self.legend)?;
            let (first, rest) = root.split_vertically(FIRST);
            let others = self.graphs.len().saturating_sub(1).max(1);
            let areas = std::iter::once(first).chain(rest.split_evenly((others, 1)));
            for (area, graph) in areas.zip(&self.graphs) {
                draw_graph(&area, self.minutes, graph)?;
            }
            root.present()?;
        }
        Ok(text)
    }
}

fn legend(area: &Area, entries: &[(Colour, &str)]) -> Drawn {
    let mut x = 70;
    for (colour, name) in entries {
        area.draw(&PathElement::new(
            vec![(x, 12), (x + 24, 12)],
            colour.rgb().stroke_width(2),
        ))?;
        area.draw(&Text::new(
            *name,
            (x + 32, 5),
            (FONT, 14).into_font().color(&TEXT),
        ))?;
        x += 200;
    }
    Ok(())
}

fn draw_graph(area: &Area, minutes: f64, graph: &Graph) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(28)
        .margin_top(6)
        .x_label_area_size(26)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..minutes, graph.range.clone())?;
    plot::mesh(
        &mut chart,
        &AxisStyle {
            title: "",
            labels: 12,
            format: &|minute| format!("{minute:.0} min"),
        },
        &AxisStyle {
            title: graph.title,
            labels: 6,
            format: &|y| format!("{}", (y * 10.0).round() / 10.0),
        },
    )?;
    for line in &graph.lines {
        let style = line.colour.rgb().stroke_width(line.width);
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_well_formed_and_has_every_line() {
        let line = |colour, value| Line {
            points: vec![(0.0, value), (60.0, value)],
            colour,
            width: 1,
        };
        let graph = |lines| Graph {
            title: "tokens/s",
            range: 0.0..10.0,
            lines,
        };
        let mut graphs = Graphs {
            title: "a < b & c",
            legend: &[(Colour::Subject, "one"), (Colour::Limit, "limit")],
            minutes: 60.0,
            graphs: vec![
                graph(vec![line(Colour::Subject, 5.0), line(Colour::Limit, 9.0)]),
                graph(vec![line(Colour::Comparison, 5.0)]),
            ],
        };
        let svg = graphs.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("a &lt; b &amp; c"), "titles are text");
        for colour in [plot::BLUE, plot::ORANGE, plot::RED] {
            let RGBColor(r, g, b) = colour;
            assert!(svg.contains(&format!("#{r:02X}{g:02X}{b:02X}")), "{svg}");
        }
        graphs.graphs.clear();
        assert!(graphs.svg().is_ok());
    }
}
