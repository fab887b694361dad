//! Heat, on a simulated board that is heated by the engine's real work.

use serde_json::Value;

use crate::client::{chat, post, reply};
use crate::harness::{Daemon, Engine, Setup, ok, until};

/// A daemon on such a board, at this ambient temperature.
fn on_board(board: &str, celsius: i32) -> Daemon {
    let arguments = format!("--simulate-board {board} --simulate-ambient {celsius}");
    Daemon::start(Setup {
        engine: Engine::Real,
        wrapper: vec![
            "sh".into(),
            "-c".into(),
            format!("exec \"$@\" {arguments}"),
            "sh".into(),
        ],
        ..Setup::default()
    })
}

fn look(daemon: &Daemon) -> String {
    ok(&daemon.call("GetBoard", &[]))
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let metrics = ok(&daemon.curl("/metrics", &[]));
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.trim().parse().unwrap()
}

#[test]
fn work_heats_the_board() {
    let daemon = on_board("pi5-bare", 25);
    let board = look(&daemon);
    assert!(board.contains("(simulated)"), "{board}");
    let cold = metric(&daemon, "hearthd_temperature_celsius");
    let text = "What is the capital of Italy? ".repeat(60);
    until("it is warmer", || {
        _ = daemon.chat(&chat(&text).to_string());
        metric(&daemon, "hearthd_temperature_celsius") > cold + 2.0
    });
    assert!(metric(&daemon, "hearthd_temperature_limit_celsius") > 70.0);
}

#[test]
fn on_a_board_that_is_far_too_hot_nothing_is_begun() {
    let daemon = on_board("pi4-poor", 60);
    until("it is seen", || {
        daemon.health()["service"]["thermal_state"] == "emergency"
    });
    let (head, refused) = reply(post(&daemon, &chat("Hello?")));
    assert!(
        head.contains(" 503 ") && head.contains("retry-after:"),
        "{head}"
    );
    assert_eq!(refused["error"]["code"], "overheated", "{refused}");
    let reason = daemon.health()["service"]["limit_reason"].clone();
    assert!(
        matches!(&reason, Value::String(why) if why.contains("too hot")),
        "{reason}"
    );
    assert!(
        look(&daemon).contains("too hot"),
        "the decision is remembered"
    );
    assert!((metric(&daemon, "hearthd_limited{cause=\"emergency\"}") - 1.0).abs() < 1e-9);
    assert!(metric(&daemon, "hearthd_duty_ratio").abs() < 1e-9);
}
