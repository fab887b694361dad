//! Clients from npm against the real daemon, over TCP.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::clients::{demo, example, expect_ok, installed};

/// The folder with the packages and the scripts that use them.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| installed("tests/clients/npm/setup.sh", &[]));

/// Runs a script against a daemon with the demo model; it reports success with `ok`.
fn run(script: &str) {
    let (_daemon, url) = demo();
    let mut node = Command::new("node");
    expect_ok(node.arg(FOLDER.join(script)).args([url, example()]));
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
