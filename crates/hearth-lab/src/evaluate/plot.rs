//! A plot of size against loss with the Pareto frontier: the models of which no other one
//! is both smaller and better.

use plotters::prelude::*;

use super::{Evaluation, Judged};
use crate::model::name;
use crate::plot::{self, AxisStyle, BLUE, Chart, Drawn, FONT, ORANGE, TEXT};

const SIZE: (u32, u32) = (920, 560);
/// Maximum number of labels of an axis.
const LABELS: usize = 11;

/// A model as a point.
#[derive(Debug)]
struct Point {
    name: String,
    mib: f64,
    loss: f64,
    error: f64,
    is_reference: bool,
}

/// The vertical coordinate and its error.
fn loss(model: &Judged, by_divergence: bool) -> (f64, f64) {
    let text = &model.result.text;
    match text.divergence {
        Some(d) if by_divergence => (d.mean, d.error),
        _ if by_divergence => (0.0, 0.0),
        _ => (text.perplexity, text.perplexity_error),
    }
}

/// Indices of the points that no other one beats in both coordinates, by size.
fn frontier(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (points[*a], points[*b]);
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let mut best = f64::INFINITY;
    order.retain(|n| {
        let better = points[*n].1 < best;
        best = best.min(points[*n].1);
        better
    });
    order
}

/// Plots by divergence if all but the reference have one, otherwise by perplexity.
pub fn svg(evaluation: &Evaluation) -> Drawn<String> {
    let models = &evaluation.models;
    let others = || models.iter().filter(|m| !evaluation.is_reference(m));
    let by_divergence =
        others().count() > 0 && others().all(|m| m.result.text.divergence.is_some());
    let points: Vec<Point> = models
        .iter()
        .map(|model| {
            let (loss, error) = loss(model, by_divergence);
            Point {
                name: name(&model.path),
                mib: mib(model.file_bytes),
                loss,
                error,
                is_reference: evaluation.is_reference(model),
            }
        })
        .collect();
    let upwards = if by_divergence {
        "KL divergence from the reference, nats"
    } else {
        "perplexity"
    };
    let title = match &evaluation.text {
        Some(path) => format!("Size against loss, by {}", name(path)),
        None => "Size against loss".to_owned(),
    };
    draw(&title, upwards, &points)
}

#[expect(clippy::cast_precision_loss, reason = "files are below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn draw(title: &str, upwards: &str, points: &[Point]) -> Drawn<String> {
    let most = |of: fn(&Point) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let right = most(|p| p.mib).max(f64::MIN_POSITIVE) * 1.15;
    let top = most(|p| p.loss + p.error).max(1e-9) * 1.12;
    // Without a decimal, the labels of a small axis would repeat.
    let digits = usize::from(right < 10.0);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let root = root.titled(title, (FONT, 20).into_font().color(&TEXT))?;
        let mut chart = ChartBuilder::on(&root)
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        plot::mesh(
            &mut chart,
            &AxisStyle {
                title: "size of the file",
                labels: LABELS,
                format: &|mib| format!("{mib:.digits$} MiB"),
            },
            &AxisStyle {
                title: upwards,
                labels: LABELS,
                format: &|loss| format!("{loss:.4}"),
            },
        )?;
        let places: Vec<(f64, f64)> = points.iter().map(|p| (p.mib, p.loss)).collect();
        let best = frontier(&places);
        let line = best.iter().map(|n| places[*n]);
        chart.draw_series(LineSeries::new(line, BLUE.mix(0.6).stroke_width(2)))?;
        for (n, point) in points.iter().enumerate() {
            let colour = if best.contains(&n) { BLUE } else { ORANGE };
            draw_point(&mut chart, point, colour)?;
        }
        root.present()?;
    }
    Ok(text)
}

/// A mark with its error as a vertical line; the reference is not filled.
fn draw_point(chart: &mut Chart<'_, '_>, point: &Point, colour: RGBColor) -> Drawn {
    let (low, high) = (point.loss - point.error, point.loss + point.error);
    chart.draw_series(LineSeries::new(
        [(point.mib, low.max(0.0)), (point.mib, high)],
        colour.stroke_width(1),
    ))?;
    let style = if point.is_reference {
        colour.stroke_width(2)
    } else {
        colour.filled()
    };
    let mark = EmptyElement::at((point.mib, point.loss))
        + Circle::new((0, 0), 5, style)
        + Text::new(
            point.name.clone(),
            (9, -16),
            (FONT, 13).into_font().color(&TEXT),
        );
    chart.draw_series([mark])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_beats_is_on_the_frontier() {
        let points = [
            (8.0, 0.1),
            (4.0, 0.4),
            (5.0, 0.5),
            (16.0, 0.0),
            (4.0, 0.3),
            (9.0, 0.1),
        ];
        assert_eq!(frontier(&points), [4, 0, 3]);
        assert!(frontier(&[]).is_empty());
    }

    #[test]
    fn the_plot_is_well_formed() {
        let point = |name: &str, mib, loss| Point {
            name: name.to_owned(),
            mib,
            loss,
            error: 0.01,
            is_reference: loss == 0.0,
        };
        let points = [
            point("a <b>", 900.0, 0.0),
            point("b", 500.0, 0.2),
            point("c", 600.0, 0.3),
        ];
        let svg = draw("t", "loss", &points).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("a &lt;b&gt;"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(draw("t", "loss", &[]).is_ok());
    }
}
