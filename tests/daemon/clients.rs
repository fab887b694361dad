//! The official Python clients against the real daemon, over TCP and the Unix socket.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::harness::{Daemon, Engine, Setup, root, text};

/// The Python that has the clients.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new(root().join("tests/clients/setup.sh"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "tests/clients/setup.sh failed: {}",
        text(&output.stderr)
    );
    text(&output.stdout).trim_end().into()
});

/// Runs a script against a daemon that has its sockets from outside, as from systemd.
fn run(script: &str) {
    let python = &*PYTHON;
    let folder = root().join("tests/clients");
    let listen = folder.join("listen.py").display().to_string();
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        wrapper: vec!["python3".into(), listen],
        ..Setup::default()
    });
    let port = fs::read_to_string(daemon.dir.path().join("port")).unwrap();
    let heldout = fs::read_to_string(root().join("packaging/demo-model/heldout.jsonl")).unwrap();
    let example = heldout.lines().find(|l| l.contains("accept_call")).unwrap();
    let output = Command::new(python)
        .arg(folder.join(script))
        .arg(format!("http://127.0.0.1:{port}"))
        .arg(daemon.socket())
        .arg(example)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("ALL_PROXY")
        .env("NO_PROXY", "localhost,127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.starts_with("ok\n"),
        "{script}: {said}"
    );
}

#[test]
fn ollamas_own_client() {
    run("use_ollama.py");
}

#[test]
fn openais_own_client() {
    run("use_openai.py");
}

#[test]
fn langchain_over_both() {
    run("use_langchain.py");
}

#[test]
fn prometheus_own_parser() {
    run("use_metrics.py");
}
