//! Rendering of `top`, independent of the terminal and the bus.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};
use serde_json::Value;

/// Number of samples in a curve.
const REMEMBERED: usize = 300;
/// Sampling interval in seconds.
pub const LOOK_EVERY_S: f64 = 1.0;
/// The speed is averaged over this many samples: a single one would vary by a token.
const SPEED_LOOKS: usize = 5;
/// Minimum number of lines that leaves room for a second curve.
const TALL: u16 = 40;

/// One sample of the service: its properties and the board.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Properties of the main object.
    pub status: Value,
    /// Result of `GetBoard`.
    pub board: Value,
    /// Time of the sample, in seconds.
    pub at_s: f64,
}

impl View {
    fn text(&self, key: &str) -> &str {
        let own = self.status[key].as_str();
        own.or_else(|| self.board[key].as_str()).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.status[key].as_u64().unwrap_or_default()
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.board[key].as_f64()
    }
}

/// What is drawn: the samples so far, the latest first.
#[derive(Debug, Default)]
pub struct Screen {
    temperatures: VecDeque<f64>,
    /// Tokens per second of all answers together, over the last [`SPEED_LOOKS`].
    speeds: VecDeque<f64>,
    /// Time and total of generated tokens.
    counts: VecDeque<(f64, u64)>,
}

impl Screen {
    /// Stores a sample.
    pub fn note(&mut self, view: &View) {
        if let Some(temperature) = view.float("temperature_celsius") {
            remember(&mut self.temperatures, temperature);
        }
        if let Some(tokens) = view.board["tokens_generated"].as_u64() {
            // The counter of a restarted service starts at 0 again.
            if self
                .counts
                .front()
                .is_some_and(|(_, before)| *before > tokens)
            {
                self.counts.clear();
            }
            self.counts.push_front((view.at_s, tokens));
            self.counts.truncate(SPEED_LOOKS + 1);
            let (since, before) = self.counts.back().copied().unwrap_or_default();
            // A query takes time, so samples are more than a second apart.
            let passed = view.at_s - since;
            #[expect(clippy::cast_precision_loss, reason = "tokens of some seconds")]
            let made = tokens.saturating_sub(before) as f64;
            remember(
                &mut self.speeds,
                if passed > 0.0 { made / passed } else { 0.0 },
            );
        }
    }

    /// Draws everything in the available area.
    pub fn draw(&self, frame: &mut Frame<'_>, view: &View) {
        let is_tall = frame.area().height >= TALL;
        let [head, middle, decisions, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(if is_tall { 30 } else { 12 }),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head_lines(view), head);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)])
                .spacing(1)
                .areas(middle);
        if is_tall {
            let [upper, lower] =
                Layout::vertical([Constraint::Percentage(60), Constraint::Min(0)]).areas(left);
            self.draw_temperature(frame, view, upper);
            self.draw_speed(frame, lower);
        } else {
            self.draw_temperature(frame, view, left);
        }
        draw_gauges(frame, view, right);
        draw_decisions(frame, view, decisions);
        let keys = Line::from("q quits").style(Modifier::DIM);
        frame.render_widget(keys, foot);
    }

    fn draw_temperature(&self, frame: &mut Frame<'_>, view: &View, area: Rect) {
        let limit = view.float("temperature_limit_celsius");
        let Some(now) = view.float("temperature_celsius") else {
            let none = Paragraph::new("no temperature sensor").dim();
            frame.render_widget(none.block(Block::bordered().title("Temperature")), area);
            return;
        };
        let state = view.text("thermal_state");
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
        let title = Line::from(format!("Tokens a second, all answers: {now:.1}"));
        frame.render_widget(chart(vec![set], title, width, [0.0, most.ceil()]), area);
    }

    fn head_lines(&self, view: &View) -> Paragraph<'static> {
        let state = view.text("state").to_owned();
        let model = match view.text("model") {
            "" => "no model loaded".to_owned(),
            model => format!("{model}, {} tokens of context", view.number("context_size")),
        };
        let (waiting, running) = (view.number("queue_length"), view.number("active_jobs"));
        let last = view.status["tokens_per_second"].as_f64().unwrap_or(0.0);
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

fn remember(values: &mut VecDeque<f64>, value: f64) {
    values.truncate(REMEMBERED - 1);
    values.push_front(value);
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
    let seconds = -width * LOOK_EVERY_S;
    let x = Axis::default().bounds([width, 0.0]);
    let y = Axis::default().bounds([bottom, top]);
    Chart::new(sets)
        .block(Block::bordered().title(title))
        .x_axis(x.labels([format!("{seconds:.0} s"), "now".into()]))
        .y_axis(y.labels([format!("{bottom:.0}"), format!("{top:.0}")]))
}

fn draw_gauges(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let block = Block::bordered().title("Board");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut heights = [Constraint::Length(1); 8];
    heights[7] = Constraint::Min(1);
    let rows: [Rect; 8] = Layout::vertical(heights).areas(inner);
    let board = |key: &str| view.board[key].as_u64();
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let threads = (board("threads"), board("threads_max"));
    if let (Some(now), Some(most)) = threads {
        let share = ratio(now, most);
        gauge(
            frame,
            rows[0],
            "Threads",
            share,
            &format!("{now} of {most}"),
        );
    }
    let duty = view.float("duty").unwrap_or(1.0);
    let said = if duty == 0.0 {
        "paused".to_owned()
    } else {
        format!("{:.0} % of the time", duty * 100.0)
    };
    gauge(frame, rows[1], "Duty", duty, &said);
    if let Some(cap) = view.float("frequency_cap") {
        gauge(
            frame,
            rows[2],
            "Clock",
            cap,
            &format!("{:.0} %", cap * 100.0),
        );
    }
    let memory = (board("memory_total_bytes"), board("memory_available_bytes"));
    if let (Some(total), Some(available)) = memory {
        let used = total.saturating_sub(available);
        let said = format!("{} free", mib(available));
        gauge(frame, rows[4], "Memory", ratio(used, total), &said);
        if let Some(engine) = board("engine_bytes") {
            gauge(frame, rows[5], "Engine", ratio(engine, total), &mib(engine));
        }
    }
    let firmware: Vec<&str> = view.board["firmware"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let state = view.text("memory_state");
    frame.render_widget(
        Line::from(vec![
            Span::raw("Memory is "),
            Span::styled(state.to_owned(), state_colour(state)),
        ]),
        rows[6],
    );
    if !firmware.is_empty() {
        let text = format!("Firmware: {}", firmware.join(", "));
        let text = Paragraph::new(text).wrap(Wrap { trim: true });
        frame.render_widget(text.red(), rows[7]);
    }
}

#[expect(clippy::cast_precision_loss, reason = "only for people's eyes")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn gauge(frame: &mut Frame<'_>, area: Rect, name: &str, share: f64, said: &str) {
    let [label, bar] = Layout::horizontal([Constraint::Length(8), Constraint::Min(8)]).areas(area);
    frame.render_widget(Line::from(name.to_owned()), label);
    let gauge = Gauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(said.to_owned())
        .gauge_style(Style::from(Color::Cyan).bg(Color::DarkGray));
    frame.render_widget(gauge, bar);
}

fn draw_decisions(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let reason = view.text("limit_reason");
    let title = if reason.is_empty() {
        Line::from("Decisions: nothing limits the work")
    } else {
        Line::from(vec![
            Span::raw("Decisions: "),
            Span::styled(reason.to_owned(), Color::Yellow),
        ])
    };
    let decisions = view.board["decisions"].as_array();
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

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn drawn(width: u16, height: u16, view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut screen = Screen::default();
        for _ in 0..90 {
            screen.note(view);
        }
        terminal.draw(|frame| screen.draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    fn hot() -> View {
        View {
            at_s: 0.0,
            status: json!({
                "state": "limited", "model": "qwen-0.5b", "context_size": 4096,
                "queue_length": 3, "active_jobs": 2, "tokens_per_second": 12.34,
                "limit_reason": "80.2 °C, limit 80.0 °C: 3 of 4 threads",
            }),
            board: json!({
                "temperature_celsius": 80.2, "temperature_limit_celsius": 80.0,
                "thermal_state": "limit", "threads": 3, "threads_max": 4, "duty": 0.8,
                "frequency_cap": 1.0, "memory_total_bytes": 4u64 << 30,
                "memory_available_bytes": 1u64 << 30, "engine_bytes": 900u64 << 20,
                "memory_state": "normal", "tokens_generated": 5000, "firmware": ["frequency capped", "throttled"],
                "decisions": [[5, "80.2 °C, limit 80.0 °C: 3 of 4 threads"], [4000, "enough again"]],
            }),
        }
    }

    #[test]
    fn a_small_and_a_large_terminal_show_all_of_it() {
        for (width, height) in [(80, 24), (160, 50)] {
            let text = drawn(width, height, &hot());
            for part in [
                "hearthd limited",
                "qwen-0.5b, 4096 tokens",
                "2 running, 3 waiting",
                "0.0 tokens/s now, 12.3 in the last answer",
                "80.2 °C (limit), limit 80 °C",
                "3 of 4",
                "80 % of the time",
                "1024 MiB free",
                "900 MiB",
                "Firmware: frequency capped",
                "5 s ago  80.2 °C, limit 80.0 °C: 3 of 4 threads",
                "1 h 6 min ago  enough again",
                "q quits",
            ] {
                assert!(
                    text.contains(part),
                    "{width}x{height}: no {part:?} in\n{text}"
                );
            }
        }
    }

    #[test]
    fn the_head_and_the_chart_show_the_speed_of_the_same_seconds() {
        let mut screen = Screen::default();
        let mut view = hot();
        // 20 tokens per second, sampled every 1.25 s.
        for look in 0..20u32 {
            view.at_s = 1.25 * f64::from(look);
            view.board["tokens_generated"] = (5000 + 25 * look).into();
            screen.note(&view);
        }
        let draw = |screen: &Screen, view: &View| {
            let mut terminal = Terminal::new(TestBackend::new(160, 50)).unwrap();
            terminal.draw(|frame| screen.draw(frame, view)).unwrap();
            terminal.backend().to_string()
        };
        let text = draw(&screen, &view);
        assert!(text.contains("20.0 tokens/s now"), "{text}");
        assert!(
            text.contains("Tokens a second, all answers: 20.0"),
            "{text}"
        );
        // Another service starts at 0: the difference does not count as speed.
        view.at_s += 1.25;
        view.board["tokens_generated"] = 10.into();
        screen.note(&view);
        assert!(draw(&screen, &view).contains("all answers: 0.0"));
    }

    #[test]
    fn a_bare_service_and_a_tiny_window_are_drawn() {
        let empty = View::default();
        let text = drawn(80, 24, &empty);
        assert!(text.contains("no model loaded"), "{text}");
        assert!(text.contains("no temperature sensor"), "{text}");
        for (width, height) in [(1, 1), (20, 5), (300, 2)] {
            drawn(width, height, &hot());
        }
    }
}
