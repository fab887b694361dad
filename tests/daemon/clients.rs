//! The official Python clients against the real daemon, over TCP and the Unix socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::harness::{Daemon, Engine, Setup, root, text};
use crate::real_models::real_model;

/// The Python interpreter that has the client libraries.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| installed("tests/clients/setup.sh", &[]));

/// The one that has the libraries which use an older client of OpenAI.
static FRAMEWORKS: LazyLock<PathBuf> =
    LazyLock::new(|| installed("tests/clients/setup.sh", &["frameworks"]));

/// Where a script has installed what it is for.
pub fn installed(script: &str, args: &[&str]) -> PathBuf {
    let output = Command::new(root().join(script))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script} failed: {}",
        text(&output.stderr)
    );
    text(&output.stdout).trim_end().into()
}

/// Runs a client, which reports success with `ok`.
pub fn expect_ok(client: &mut Command) {
    let output = client.stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.starts_with("ok\n"),
        "{client:?}: {said}"
    );
}

/// A daemon that inherits its sockets, as from systemd, and the address of its TCP
/// socket.
pub fn listening(setup: Setup) -> (Daemon, String) {
    let listen = root().join("tests/clients/listen.py").display().to_string();
    let daemon = Daemon::start(Setup {
        wrapper: vec!["python3".into(), listen],
        ..setup
    });
    let port = fs::read_to_string(daemon.dir.path().join("port")).unwrap();
    (daemon, format!("http://127.0.0.1:{port}"))
}

/// A daemon with the demo model, and the address of its TCP socket.
pub fn demo() -> (Daemon, String) {
    listening(Setup {
        engine: Engine::Real,
        ..Setup::default()
    })
}

/// A daemon with a real model that calls tools, named `tools`; `None` if it cannot be fetched.
fn with_tools() -> Option<(Daemon, String)> {
    let model = real_model("qwen2.5-coder-0.5b")?;
    let (daemon, url) = listening(Setup {
        engine: Engine::Real,
        config: "[model]\ndefault = \"tools\"\ncontext = 4096\n\
                 [sampling]\ntool_call_mode = \"lenient\"\n",
        ..Setup::default()
    });
    fs::copy(model, daemon.models().join("tools.gguf")).unwrap();
    Some((daemon, url))
}

/// A conversation with tools as a line of JSON, and the call that the demo model answers.
pub fn example() -> String {
    let heldout = fs::read_to_string(root().join("packaging/demo-model/heldout.jsonl")).unwrap();
    let example = heldout.lines().find(|l| l.contains("accept_call"));
    example.unwrap().to_owned()
}

/// Runs a script against a daemon with the demo model.
fn run(script: &str) {
    let (daemon, url) = demo();
    let socket = daemon.socket().display().to_string();
    run_with(script, &[&url, &socket, &example()]);
}

/// Runs a script, which reports success with `ok`.
pub fn run_with(script: &str, args: &[&str]) {
    run_by(&PYTHON, script, args);
}

fn run_by(python: &Path, script: &str, args: &[&str]) {
    let mut client = Command::new(python);
    client
        .arg(root().join("tests/clients").join(script))
        .args(args)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("ALL_PROXY")
        .env("NO_PROXY", "localhost,127.0.0.1");
    expect_ok(&mut client);
}

#[test]
fn the_client_library_of_ollama_works() {
    run("use_ollama.py");
}

#[test]
fn the_client_library_of_openai_works() {
    run("use_openai.py");
}

#[test]
fn the_client_library_of_anthropic_works() {
    run("use_anthropic.py");
}

#[test]
fn the_agent_loop_of_anthropics_client_works_with_a_real_model() {
    if let Some((_daemon, url)) = with_tools() {
        run_with("use_anthropic_tools.py", &[&url, "tools"]);
    }
}

#[test]
fn the_package_instructor_works_with_a_real_model() {
    if let Some((_daemon, url)) = with_tools() {
        run_by(&FRAMEWORKS, "use_instructor.py", &[&url, "tools"]);
    }
}

#[test]
fn litellm_works_over_every_api_with_a_real_model() {
    if let Some((_daemon, url)) = with_tools() {
        run_by(&FRAMEWORKS, "use_litellm.py", &[&url, "tools"]);
    }
}

#[test]
fn llama_index_works_over_both_apis_with_a_real_model() {
    if let Some((_daemon, url)) = with_tools() {
        run_by(&FRAMEWORKS, "use_llama_index.py", &[&url, "tools"]);
    }
}

#[test]
fn the_evaluation_harness_scores_a_real_model() {
    if let Some((daemon, url)) = with_tools() {
        let file = daemon.models().join("tools.gguf").display().to_string();
        run_by(&FRAMEWORKS, "use_lm_eval.py", &[&url, "tools", &file]);
    }
}

#[test]
fn langchain_works_over_every_api() {
    run("use_langchain.py");
}

/// Chromium, at the width of a phone and of a desktop.
#[test]
fn the_page_works_in_a_browser() {
    run("use_page.py");
}

#[test]
fn the_command_line_tool_llm_works() {
    run("use_llm.py");
}

#[test]
fn the_parser_of_prometheus_reads_the_metrics() {
    run("use_metrics.py");
}
