//! Rendering of `top`, independent of the terminal and the bus.

mod board;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::sample::{History, INTERVAL_S, Sample};

/// Minimum number of lines that leaves room for a second curve.
const TALL: u16 = 40;

impl History {
    /// Draws everything in the available area.
    pub fn draw(&self, frame: &mut Frame<'_>, sample: &Sample) {
        let is_tall = frame.area().height >= TALL;
        let [head, middle, decisions, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(if is_tall { 30 } else { 12 }),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head_lines(sample), head);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)])
                .spacing(1)
                .areas(middle);
        if is_tall {
            let [upper, lower] =
                Layout::vertical([Constraint::Percentage(60), Constraint::Min(0)]).areas(left);
            self.draw_temperature(frame, sample, upper);
            self.draw_speed(frame, lower);
        } else {
            self.draw_temperature(frame, sample, left);
        }
        board::draw(frame, sample, right);
        draw_decisions(frame, sample, decisions);
        let keys = Line::from("q quits").style(Modifier::DIM);
        frame.render_widget(keys, foot);
    }

    fn draw_temperature(&self, frame: &mut Frame<'_>, sample: &Sample, area: Rect) {
        let limit = sample.float("temperature_limit_celsius");
        let Some(now) = sample.float("temperature_celsius") else {
            let none = Paragraph::new("no temperature sensor").dim();
            frame.render_widget(none.block(Block::bordered().title("Temperature")), area);
            return;
        };
        let state = sample.text("thermal_state");
        let limited = limit.map_or(String::new(), |limit| format!(", limit {limit:.0} °C"));
        let title = Line::from(vec![
            Span::raw("Temperature "),
            Span::styled(format!("{now:.1} °C ({state})"), state_colour(state)),
            Span::raw(limited),
        ]);
        let lows = self.temperatures.iter().copied().fold(now, f64::min);
        let highs = self.temperatures.iter().copied().fold(now, f64::max);
        let bottom = (lows - 5.0).floor();
        let top = highs.max(limit.unwrap_or(highs)) + 3.0;
        let (curve, width) = curve(&self.temperatures);
        let line = limit.map_or_else(Vec::new, |limit| vec![(width, limit), (0.0, limit)]);
        let sets = vec![
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Color::Red)
                .data(&line),
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(state_colour(state))
                .data(&curve),
        ];
        frame.render_widget(chart(sets, title, width, [bottom, top]), area);
    }

    fn draw_speed(&self, frame: &mut Frame<'_>, area: Rect) {
        let (curve, width) = curve(&self.speeds);
        let most = self.speeds.iter().copied().fold(1.0, f64::max);
        let set = Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Color::Cyan)
            .data(&curve);
        let now = self.speeds.front().copied().unwrap_or(0.0);
        let title = Line::from(format!("Tokens per second, all answers: {now:.1}"));
        frame.render_widget(chart(vec![set], title, width, [0.0, most.ceil()]), area);
    }

    fn head_lines(&self, sample: &Sample) -> Paragraph<'static> {
        let state = sample.text("state").to_owned();
        let model = match sample.text("model") {
            "" => "no model loaded".to_owned(),
            model => format!(
                "{model}, {} tokens of context",
                sample.number("context_size")
            ),
        };
        let (waiting, running) = (sample.number("queue_length"), sample.number("active_jobs"));
        let last = sample.status["tokens_per_second"].as_f64().unwrap_or(0.0);
        let now = self.speeds.front().copied().unwrap_or(0.0);
        let colour = match state.as_str() {
            "ready" | "busy" => Color::Green,
            "limited" | "loading" => Color::Yellow,
            "failed" => Color::Red,
            _ => Color::Reset,
        };
        Paragraph::new(vec![
            Line::from(vec![
                Span::styled("hearthd ", Modifier::BOLD),
                Span::styled(state, Style::from(colour).add_modifier(Modifier::BOLD)),
                Span::raw(format!("  {model}")),
            ]),
            Line::from(format!(
                "{running} running, {waiting} waiting   {now:.1} tokens/s now, {last:.1} in the last answer"
            )),
        ])
    }
}

/// Values by age, and the width of the plot in samples.
fn curve(values: &VecDeque<f64>) -> (Vec<(f64, f64)>, f64) {
    let ages = (0u32..).map(|age| -f64::from(age));
    let curve: Vec<(f64, f64)> = ages.zip(values.iter().copied()).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let width = -(curve.len().max(60) as f64);
    (curve, width)
}

fn chart<'a>(
    sets: Vec<Dataset<'a>>,
    title: Line<'a>,
    width: f64,
    [bottom, top]: [f64; 2],
) -> Chart<'a> {
    let seconds = -width * INTERVAL_S;
    let x = Axis::default().bounds([width, 0.0]);
    let y = Axis::default().bounds([bottom, top]);
    Chart::new(sets)
        .block(Block::bordered().title(title))
        .x_axis(x.labels([format!("{seconds:.0} s"), "now".into()]))
        .y_axis(y.labels([format!("{bottom:.0}"), format!("{top:.0}")]))
}

fn draw_decisions(frame: &mut Frame<'_>, sample: &Sample, area: Rect) {
    let reason = sample.text("limit_reason");
    let title = if reason.is_empty() {
        Line::from("Decisions: not limited")
    } else {
        Line::from(vec![
            Span::raw("Decisions: "),
            Span::styled(reason.to_owned(), Color::Yellow),
        ])
    };
    let decisions = sample.board["decisions"].as_array();
    let lines: Vec<Line<'_>> = decisions
        .into_iter()
        .flatten()
        .map(|decision| {
            let age = decision[0].as_u64().unwrap_or_default();
            let text = decision[1].as_str().unwrap_or_default();
            Line::from(vec![
                Span::styled(format!("{:>9} ago  ", ago(age)), Modifier::DIM),
                Span::raw(text.to_owned()),
            ])
        })
        .collect();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(title)),
        area,
    );
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn state_colour(state: &str) -> Color {
    match state {
        "cool" | "normal" => Color::Green,
        "warm" => Color::Cyan,
        "hot" | "moderate" => Color::Yellow,
        "limit" | "critical" | "emergency" => Color::Red,
        _ => Color::Reset,
    }
}
