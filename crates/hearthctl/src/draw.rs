//! What all drawings have in common. They are SVG.
//!
//! There is no background, and all colours are of middle lightness: they are to be read
//! on white and on black.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::{CtlError, Result};
use crate::output;

/// Any font without serifs.
pub const FONT: &str = "sans-serif";
/// Text and axes.
pub const TEXT: RGBColor = RGBColor(125, 131, 140);
/// What a drawing is about.
pub const BLUE: RGBColor = RGBColor(52, 132, 206);
/// What it is compared with.
pub const ORANGE: RGBColor = RGBColor(214, 132, 44);
/// A limit.
pub const RED: RGBColor = RGBColor(216, 72, 72);

/// A part of a drawing.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing returns.
pub type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Writes a finished drawing.
pub fn write(path: &Path, svg: Drawn<String>) -> Result {
    let svg = svg.map_err(|e| CtlError::Unexpected(format!("cannot draw the plot: {e}")))?;
    output::file(path, svg.as_bytes())
}
