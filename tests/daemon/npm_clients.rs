//! Clients from npm against the real daemon, over TCP.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::clients::{demo, example};
use crate::harness::{root, text};

/// The folder with the packages and the scripts that use them.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new(root().join("tests/clients/npm/setup.sh"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "tests/clients/npm/setup.sh failed: {}",
        text(&output.stderr)
    );
    text(&output.stdout).trim_end().into()
});

/// Runs a script against a daemon with the demo model; it reports success with `ok`.
fn run(script: &str) {
    let (_daemon, url) = demo();
    let output = Command::new("node")
        .arg(FOLDER.join(script))
        .args([url, example()])
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
fn the_npm_package_of_anthropic_works() {
    run("use_anthropic.mjs");
}

#[test]
fn the_npm_package_of_openai_works() {
    run("use_openai.mjs");
}

#[test]
fn the_npm_package_of_ollama_works() {
    run("use_ollama.mjs");
}

#[test]
fn the_npm_package_ai_works() {
    run("use_ai.mjs");
}
