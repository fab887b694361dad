//! The start and the reload of the daemon: configuration, sockets, a missing bus.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Daemon, PATIENCE, Setup, error, ok, root, text, until};

#[test]
fn an_unknown_key_stops_the_start_with_line_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hearthd.toml");
    fs::write(&path, "[model]\n\nprelaod = true\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hearthd"))
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    let said = error(&output);
    assert!(
        said.contains("hearthd.toml:3: unknown key `prelaod`: did you mean `preload`?"),
        "{said}"
    );
}

#[test]
fn a_reload_applies_valid_files_and_ignores_invalid_ones() {
    let daemon = Daemon::fake("");
    let drop_ins = daemon.dir.path().join("hearthd.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10-a.toml"), "[sampling]\nmax_tokens = 3\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    until("the file was read", || {
        daemon.log().contains("configuration reloaded")
    });
    let answer = daemon.chat(r#"{"messages":[{"role":"user","content":"abcdef"}]}"#);
    assert_eq!(answer["choices"][0]["message"]["content"], "abc");
    fs::write(drop_ins.join("20-b.toml"), "[sampling]\ntop_q = 3\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    until("the file was refused", || {
        daemon
            .log()
            .contains("20-b.toml:2: unknown key `top_q`: did you mean `top_k`?")
    });
    assert_eq!(daemon.health()["status"], "ok");
}

#[test]
fn a_socket_in_use_is_reported() {
    let mut daemon = Daemon::fake("");
    let config = daemon.dir.path().join("hearthd.toml");
    let second = Command::new(env!("CARGO_BIN_EXE_hearthd"))
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let said = error(&second);
    assert!(said.contains("is in use"), "{said}");
    assert!(daemon.child.try_wait().unwrap().is_none());
    assert_eq!(daemon.health()["status"], "ok");
}

#[test]
fn without_a_bus_the_socket_is_served() {
    let daemon = Daemon::start(Setup {
        bus: false,
        ..Setup::default()
    });
    until("it says so", || {
        daemon.log().contains("D-Bus is not available")
    });
    let answer = daemon.chat(r#"{"messages":[{"role":"user","content":"hello"}]}"#);
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
}

/// The daemon that systemd starts with one kind of its sockets, and no bus.
fn activated(only: &str) -> (Daemon, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let told = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", dir.path().join("notify").display());
    let listen = root().join("tests/clients/listen.py").display().to_string();
    let daemon = Daemon::launch(Setup {
        bus: false,
        wrapper: vec!["env".into(), notify, "python3".into(), listen, only.into()],
        ..Setup::default()
    });
    let mut said = [0; 4096];
    let size = told.recv(&mut said).unwrap();
    assert!(text(&said[..size]).contains("READY=1"));
    let warnings = daemon.log().matches("D-Bus is not available").count();
    assert_eq!(warnings, 1, "{}", daemon.log());
    (daemon, dir)
}

#[test]
fn activated_by_either_socket_it_needs_no_bus() {
    let body = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    let (daemon, _dir) = activated("--only=unix");
    let answer = daemon.chat(body);
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
    assert!(!daemon.dir.path().join("port").exists());

    let (mut daemon, _dir) = activated("--only=tcp");
    assert!(!daemon.socket().exists());
    let port = fs::read_to_string(daemon.dir.path().join("port")).unwrap();
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let mut curl = Command::new("curl");
    let curl = curl.args(["-sS", "--noproxy", "*", "--max-time", "60", "-d", body]);
    let answer: Value = serde_json::from_str(&ok(&curl.arg(url).output().unwrap())).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
}
