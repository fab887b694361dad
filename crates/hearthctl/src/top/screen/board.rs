//! The state of the board: threads, duty, clock, memory and firmware.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Wrap};
use serde_json::Value;

use super::super::sample::Sample;
use super::state_colour;

/// Draws one line for each value that is known.
pub fn draw(frame: &mut Frame<'_>, sample: &Sample, area: Rect) {
    let block = Block::bordered().title("Board");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut heights = [Constraint::Length(1); 8];
    heights[7] = Constraint::Min(1);
    let [threads, duty, clock, _, memory, engine, state, firmware] =
        Layout::vertical(heights).areas(inner);
    draw_compute(frame, sample, [threads, duty, clock]);
    draw_memory(frame, sample, [memory, engine, state]);
    draw_firmware(frame, sample, firmware);
}

fn draw_compute(frame: &mut Frame<'_>, sample: &Sample, [threads, duty, clock]: [Rect; 3]) {
    let board = |key: &str| sample.board[key].as_u64();
    if let (Some(now), Some(most)) = (board("threads"), board("threads_max")) {
        let label = format!("{now} of {most}");
        gauge(frame, threads, "Threads", ratio(now, most), &label);
    }
    let share = sample.float("duty").unwrap_or(1.0);
    let label = if share == 0.0 {
        "paused".to_owned()
    } else {
        format!("{:.0} % of the time", share * 100.0)
    };
    gauge(frame, duty, "Duty", share, &label);
    if let Some(cap) = sample.float("frequency_cap") {
        let label = format!("{:.0} %", cap * 100.0);
        gauge(frame, clock, "Clock", cap, &label);
    }
}

fn draw_memory(frame: &mut Frame<'_>, sample: &Sample, [memory, engine, state]: [Rect; 3]) {
    let board = |key: &str| sample.board[key].as_u64();
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let sizes = (board("memory_total_bytes"), board("memory_available_bytes"));
    if let (Some(total), Some(available)) = sizes {
        let used = total.saturating_sub(available);
        let label = format!("{} free", mib(available));
        gauge(frame, memory, "Memory", ratio(used, total), &label);
        if let Some(bytes) = board("engine_bytes") {
            gauge(frame, engine, "Engine", ratio(bytes, total), &mib(bytes));
        }
    }
    let text = sample.text("memory_state");
    let line = Line::from(vec![
        Span::raw("Memory is "),
        Span::styled(text.to_owned(), state_colour(text)),
    ]);
    frame.render_widget(line, state);
}

fn draw_firmware(frame: &mut Frame<'_>, sample: &Sample, area: Rect) {
    let flags = sample.board["firmware"].as_array();
    let flags: Vec<&str> = flags
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !flags.is_empty() {
        let text = format!("Firmware: {}", flags.join(", "));
        let text = Paragraph::new(text).wrap(Wrap { trim: true });
        frame.render_widget(text.red(), area);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the screen shows few digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn gauge(frame: &mut Frame<'_>, area: Rect, name: &str, share: f64, label: &str) {
    let [left, bar] = Layout::horizontal([Constraint::Length(8), Constraint::Min(8)]).areas(area);
    frame.render_widget(Line::from(name.to_owned()), left);
    let gauge = Gauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(label.to_owned())
        .gauge_style(Style::from(Color::Cyan).bg(Color::DarkGray));
    frame.render_widget(gauge, bar);
}
