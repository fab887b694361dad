//! Common parts of all plots, which are SVG.
//!
//! Plots have no background, and all colours have medium lightness, so that they are
//! readable on white and on black.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::{CtlError, Result};
use crate::output;

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
/// What drawing returns.
pub type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Writes a finished plot to a file.
pub fn write(path: &Path, svg: Drawn<String>) -> Result {
    let svg = svg.map_err(|e| CtlError::Unexpected(format!("cannot draw the plot: {e}")))?;
    output::file(path, svg.as_bytes())
}
