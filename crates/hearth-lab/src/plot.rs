//! Common parts of all plots, which are SVG.
//!
//! Plots have no background, and all colours have medium lightness, so that they are
//! readable on white and on black.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Any font without serifs.
pub const FONT: &str = "sans-serif";
/// Text and axes.
pub const TEXT: RGBColor = RGBColor(125, 131, 140);
/// The subject of a plot.
pub const BLUE: RGBColor = RGBColor(52, 132, 206);
/// What the subject is compared with.
pub const ORANGE: RGBColor = RGBColor(214, 132, 44);
/// A limit.
pub const RED: RGBColor = RGBColor(216, 72, 72);

/// A region of a plot.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A chart of numbers.
pub type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// What drawing returns.
pub type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One axis of a chart.
pub struct AxisStyle<'a> {
    /// Empty for none.
    pub title: &'a str,
    /// Maximum number of labels.
    pub labels: usize,
    /// The text of a label.
    pub format: &'a dyn Fn(&f64) -> String,
}

/// Draws the axes and the grid.
pub fn mesh(chart: &mut Chart<'_, '_>, x: &AxisStyle<'_>, y: &AxisStyle<'_>) -> Drawn {
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(TEXT.mix(0.25))
        .axis_style(TEXT)
        .label_style((FONT, 12, &TEXT))
        .axis_desc_style((FONT, 13, &TEXT))
        .x_labels(x.labels)
        .y_labels(y.labels)
        .x_label_formatter(x.format)
        .y_label_formatter(y.format);
    if !x.title.is_empty() {
        mesh.x_desc(x.title);
    }
    if !y.title.is_empty() {
        mesh.y_desc(y.title);
    }
    mesh.draw()?;
    Ok(())
}
