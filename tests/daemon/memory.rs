//! Memory pressure, on a board whose memory is simulated by files.

use std::fs;
use std::io::Write as _;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Daemon, Setup, ok, until};

/// Sets the available memory, in per cent of 4 GiB.
fn set_available(daemon: &Daemon, percent: u64) {
    let proc = daemon.dir.path().join("board/proc");
    fs::create_dir_all(&proc).unwrap();
    let total = 4 * 1024 * 1024;
    let text = format!(
        "MemTotal: {total} kB\nMemAvailable: {} kB\n",
        total / 100 * percent
    );
    // A reader sees the old file or the new one.
    fs::write(proc.join("new"), text).unwrap();
    fs::rename(proc.join("new"), proc.join("meminfo")).unwrap();
}

fn wait_for_state(daemon: &Daemon, state: &str) {
    until(state, || {
        daemon.health()["service"]["memory_state"] == state
    });
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn short_memory_releases_cached_prompts_first() {
    let daemon = Daemon::real();
    set_available(&daemon, 60);
    let ask = || {
        daemon.chat(r#"{"messages":[{"role":"user","content":"What is the capital of Italy?"}],"temperature":0}"#)
    };
    let first = ask();
    let again = ask();
    let cached = |answer: &serde_json::Value| {
        let details = &answer["usage"]["prompt_tokens_details"];
        details["cached_tokens"].as_u64().unwrap()
    };
    assert!(cached(&again) > cached(&first), "{again}");
    let pid = daemon.engine_pid().unwrap();
    // About 61 MiB of prompts, at 2 KiB per token; unused cells are not resident. The
    // demo model tokenizes digits one by one.
    for digit in 0..8 {
        let text = digit.to_string().repeat(3900);
        let answer = daemon.chat(&format!(
            r#"{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":1}}"#
        ));
        assert_eq!(answer["usage"]["completion_tokens"], 1, "{answer}");
    }
    let before = resident_kib(pid);
    set_available(&daemon, 14);
    wait_for_state(&daemon, "moderate");
    until("the engine has become smaller", || {
        resident_kib(pid) + 40 * 1024 < before
    });
    let after = ask();
    assert_eq!(
        after["choices"][0]["message"],
        first["choices"][0]["message"]
    );
    assert_eq!(daemon.engine_pid(), Some(pid), "the model stays");
}

#[test]
fn memory_pressure_events_of_systemd_are_handled() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("pressure");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let daemon = Daemon::start(Setup {
        wrapper: vec![
            "env".into(),
            format!("MEMORY_PRESSURE_WATCH={}", fifo.display()),
            // "some 200000 2000000", the format of systemd.
            "MEMORY_PRESSURE_WRITE=c29tZSAyMDAwMDAgMjAwMDAwMAA=".into(),
        ],
        ..Setup::default()
    });
    set_available(&daemon, 60);
    ok(&daemon.call("LoadModel", &["sa{sv}", "", "0"]));
    // The daemon reads back from the fifo what it wrote; then a real warning.
    wait_for_state(&daemon, "moderate");
    let mut writer = fs::File::options().write(true).open(&fifo).unwrap();
    writer.write_all(b"x").unwrap();
    wait_for_state(&daemon, "moderate");
}

#[test]
fn an_invalid_memory_pressure_watch_is_logged_and_ignored() {
    for (watch, write) in [("/nonexistent", ""), ("/dev/zero", "?")] {
        let daemon = Daemon::start(Setup {
            wrapper: vec![
                "env".into(),
                format!("MEMORY_PRESSURE_WATCH={watch}"),
                format!("MEMORY_PRESSURE_WRITE={write}"),
            ],
            ..Setup::default()
        });
        until("it says so", || {
            daemon.log().contains("cannot watch memory pressure")
        });
        assert_eq!(daemon.health()["service"]["memory_state"], "normal");
    }
}
