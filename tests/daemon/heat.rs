//! Heat, on a simulated board that is heated by the engine's real work.

use crate::client::chat;
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
fn work_raises_the_simulated_temperature() {
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
