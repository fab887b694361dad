//! Measuring a model by number of threads, on boards whose sensors are files.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client::{Bus, chat};
use crate::harness::{Daemon, Engine, Setup, error, ok, until};

/// Two threads on any test machine; a board with four cores at this temperature.
fn on_board(celsius: i32) -> Daemon {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[engine]\nthreads = 2\n",
        ..Setup::default()
    });
    set_temperature(&daemon, celsius);
    daemon
}

pub fn set_temperature(daemon: &Daemon, celsius: i32) {
    let zone = daemon
        .dir
        .path()
        .join("board/sys/class/thermal/thermal_zone0");
    fs::create_dir_all(&zone).unwrap();
    for (name, value) in [
        ("type", "cpu-thermal".to_owned()),
        ("trip_point_0_type", "passive".to_owned()),
        ("trip_point_0_temp", "80000".to_owned()),
        ("temp", format!("{celsius}000")),
    ] {
        fs::write(zone.join("new"), value).unwrap();
        fs::rename(zone.join("new"), zone.join(name)).unwrap();
    }
}

fn stop(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
}

fn tune(daemon: &Daemon, args: &[&str]) -> Value {
    let said = ok(&daemon.ctl(&[&["tune", "--json"], args].concat()));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_measurement_is_stored_and_used() {
    let mut daemon = on_board(40);
    assert_eq!(tune(&daemon, &["--show"]), serde_json::json!([]));
    let measured = tune(&daemon, &[]);
    assert_eq!(measured["model"], "hearth-demo-q8_0");
    for key in ["decode", "prefill"] {
        let speeds = measured[key].as_array().unwrap();
        assert_eq!(speeds.len(), 2, "{measured}");
        assert!(
            speeds.iter().all(|v| v.as_f64().unwrap() > 1.0),
            "{measured}"
        );
    }
    assert!(measured["explanation"].as_array().unwrap().len() >= 2);
    let shown = tune(&daemon, &["--show"]);
    assert_eq!(shown[0], measured);
    let people = ok(&daemon.ctl(&["tune", "--show"]));
    let steady = measured["steady"] == true;
    assert_eq!(people.contains("used for answers"), steady, "{people}");

    // It survives a restart, and a damaged file does no harm.
    stop(&mut daemon);
    daemon.restart();
    assert_eq!(tune(&daemon, &["--show"])[0], measured);
    stop(&mut daemon);
    let file = daemon.dir.path().join("tuning.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    daemon.restart();
    assert_eq!(tune(&daemon, &["--show"]), serde_json::json!([]));
    assert!(
        daemon
            .log()
            .contains("run `hearthctl tune` to measure again")
    );
    ok(&daemon.ctl(&["tune"]));
    ok(&daemon.ctl(&["tune", "--clear"]));
    assert_eq!(tune(&daemon, &["--show"]), serde_json::json!([]));
}

#[test]
fn a_warm_board_is_not_measured() {
    let daemon = on_board(75);
    let said = error(&daemon.ctl(&["tune", "--wait", "2"]));
    assert!(
        said.contains("(75.0 °C): measuring starts 15 K below its limit of 80.0 °C"),
        "{said}"
    );
    assert!(!daemon.dir.path().join("tuning.json").exists());
    // It continues once the board has cooled down.
    let mut waiting = daemon.ctl_command(&["tune"]);
    let mut waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    until("it waits", || {
        ok(&daemon.call("GetBoard", &[])).contains("waiting: the board is")
    });
    let twice = error(&daemon.ctl(&["tune"]));
    assert!(twice.contains("already running"), "{twice}");
    set_temperature(&daemon, 40);
    assert!(waiting.wait().unwrap().success());
    assert!(daemon.dir.path().join("tuning.json").exists());
}

#[test]
fn requests_during_a_measurement_are_answered_and_its_step_repeated() {
    let daemon = on_board(40);
    ok(&daemon.ctl(&["load"]));
    let mut measuring = daemon.ctl_command(&["tune"]);
    let mut measuring = measuring.stdout(Stdio::null()).spawn().unwrap();
    let bus = Bus::connect(&daemon);
    let mut answers = 0;
    while measuring.try_wait().unwrap().is_none() {
        if answers < 5 {
            let job = bus.submit(&chat("What is the capital of Italy?"), &HashMap::new());
            let answer = bus.result(&job.unwrap()).unwrap().to_string();
            assert!(answer.contains("Rome"), "{answer}");
            answers += 1;
        }
    }
    assert!(measuring.wait().unwrap().success() && answers > 0);

    // The measurement stops when its caller disconnects.
    let mut gone: Command = daemon.ctl_command(&["tune"]);
    let mut gone = gone.stdout(Stdio::null()).spawn().unwrap();
    until("it measures", || {
        ok(&daemon.call("GetBoard", &[])).contains("tuning_total")
    });
    gone.kill().unwrap();
    gone.wait().unwrap();
    until("it is over", || {
        !ok(&daemon.call("GetBoard", &[])).contains("tuning_total")
    });
}
