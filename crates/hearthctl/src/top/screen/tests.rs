use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;

fn drawn(width: u16, height: u16, sample: &Sample) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut history = History::default();
    for _ in 0..90 {
        history.add(sample);
    }
    terminal.draw(|frame| history.draw(frame, sample)).unwrap();
    terminal.backend().to_string()
}

fn hot() -> Sample {
    Sample {
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
    let mut history = History::default();
    let mut sample = hot();
    // 20 tokens per second, sampled every 1.25 s.
    for n in 0..20u32 {
        sample.at_s = 1.25 * f64::from(n);
        sample.board["tokens_generated"] = (5000 + 25 * n).into();
        history.add(&sample);
    }
    let draw = |history: &History, sample: &Sample| {
        let mut terminal = Terminal::new(TestBackend::new(160, 50)).unwrap();
        terminal.draw(|frame| history.draw(frame, sample)).unwrap();
        terminal.backend().to_string()
    };
    let text = draw(&history, &sample);
    assert!(text.contains("20.0 tokens/s now"), "{text}");
    assert!(
        text.contains("Tokens per second, all answers: 20.0"),
        "{text}"
    );
    // Another service starts at 0: the difference does not count as speed.
    sample.at_s += 1.25;
    sample.board["tokens_generated"] = 10.into();
    history.add(&sample);
    assert!(draw(&history, &sample).contains("all answers: 0.0"));
}

#[test]
fn a_bare_service_and_a_tiny_window_are_drawn() {
    let empty = Sample::default();
    let text = drawn(80, 24, &empty);
    assert!(text.contains("no model loaded"), "{text}");
    assert!(text.contains("no temperature sensor"), "{text}");
    for (width, height) in [(1, 1), (20, 5), (300, 2)] {
        drawn(width, height, &hot());
    }
}
