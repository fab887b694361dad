//! Tools of a real MCP server in a chat. The fake model repeats its message, so that a
//! message with a call is a call.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::clients::{PYTHON, expect_ok};
use crate::ctl_json::validate;
use crate::harness::{Daemon, Engine, Setup, hearthctl, ok, root, text, until};
use crate::real_models::real_model;

const SECRET: &str = "hunter2-hunter2";

/// The file of the servers.
fn servers(folder: &Path, more: &Value) -> PathBuf {
    let script = root().join("tests/clients/mcp_server.py");
    let mut entry = json!({"command": *PYTHON, "args": [script, folder],
        "env": {"TOKEN": SECRET}});
    entry
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let file = folder.join("mcp.json");
    let off = json!({"command": "/nonexistent", "disabled": true});
    let document = json!({"mcpServers": {"home": entry, "off": off}});
    fs::write(&file, document.to_string()).unwrap();
    file
}

const LENIENT: &str = "[sampling]\ntool_call_mode = \"lenient\"\n";

/// A daemon whose model repeats messages.
fn fake() -> Daemon {
    Daemon::start(Setup {
        config: LENIENT,
        ..Setup::default()
    })
}

/// A message that is a call in the lenient mode.
fn call(name: &str, arguments: &str) -> String {
    format!(r#"{{"name": "{name}", "arguments": {arguments}}}"#)
}

fn chat(daemon: &Daemon, args: &[&str], lines: &str) -> Output {
    // With a system prompt the fake model does not repeat earlier calls.
    let args = [&["chat", "--system", "You control a home."], args].concat();
    let mut child = daemon
        .ctl_command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A chat that fails at its start does not read its input.
    _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(!all.contains(SECRET), "{all}");
    output
}

/// The server that a chat started has ended.
fn assert_ended(folder: &Path) {
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    let process = Path::new("/proc").join(pid);
    until("the server has ended", || !process.exists());
}

#[test]
fn allowed_tools_run_and_others_are_declined_without_a_terminal() {
    let daemon = fake();
    let dir = tempfile::tempdir().unwrap();
    let file = servers(dir.path(), &json!({"alwaysAllow": ["fail", "gone"]}));
    let lines = [
        call("home__get_temperature", r#"{"room": "kitchen"}"#),
        call("home__fail", "{}"),
        call("home__picture", "{}"),
        "Hello".to_owned(),
    ];
    let args = [
        "--mcp",
        file.to_str().unwrap(),
        "--allow",
        "home__get_temperature",
    ];
    let output = chat(&daemon, &args, &lines.join("\n"));
    let said = ok(&output);
    assert!(
        said.contains("tool call: home__get_temperature {\"room\":\"kitchen\"}\n"),
        "{said}"
    );
    for part in [
        "\nIt is 31 degrees in the kitchen.\n",
        "Error executing tool fail",
        "The user declined this call.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.ends_with("\nHello\n"), "{said}");
    let notes = text(&output.stderr);
    for part in [
        "home__get_temperature returned 32 bytes",
        "home__fail failed: ",
        "allow it with --allow home__picture",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert_ended(dir.path());
}

#[test]
fn json_has_the_results_and_they_are_bounded() {
    let daemon = fake();
    let dir = tempfile::tempdir().unwrap();
    let file = servers(dir.path(), &json!({}));
    let lines = [
        call("home__big", "{}"),
        call("home__picture", "{}"),
        call("home__end", "{}"),
        call("home__picture", "{}"),
    ];
    let args = [
        "--json",
        "--mcp",
        file.to_str().unwrap(),
        "--allow-all",
        "--tool-result-max",
        "1000",
    ];
    let output = chat(&daemon, &args, &lines.join("\n"));
    ok(&output);
    let events = validate("chat", &output);
    let calls: Vec<&Value> = events.iter().filter(|e| e["type"] == "tool_call").collect();
    let results: Vec<&Value> = events
        .iter()
        .filter(|e| e["type"] == "tool_result")
        .collect();
    let ids = |of: &[&Value]| of.iter().map(|e| e["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&calls), ids(&results));
    let status = |n: usize| results[n]["status"].as_str().unwrap();
    let content = |n: usize| results[n]["content"].as_str().unwrap();
    assert_eq!(
        [status(0), status(1), status(2), status(3)],
        ["ok", "ok", "error", "error"]
    );
    assert!(content(0).len() < 1100, "{}", content(0).len());
    assert!(content(0).ends_with("[The result was cut: the first 1000 of 20000 bytes.]"));
    assert_eq!(content(1), "(image, image/png, 6 bytes, not shown)");
    // Its standard error, which has the password.
    assert!(content(2).contains("the server has ended") && content(2).contains("(hidden)"));
    assert!(content(3).contains("the server has ended"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_rounds_are_bounded() {
    let daemon = fake();
    let dir = tempfile::tempdir().unwrap();
    let file = servers(dir.path(), &json!({}));
    let file = file.to_str().unwrap();
    let args = ["--mcp", file, "--allow-all", "--tool-rounds", "3"];
    let output = chat(
        &daemon,
        &args,
        &(call("home__call_again", "{}") + "\nHello\n"),
    );
    let said = ok(&output);
    let notes = text(&output.stderr);
    assert_eq!(
        notes.matches("home__call_again returned").count(),
        3,
        "{notes}{said}"
    );
    assert!(notes.contains("--tool-rounds"), "{notes}");
    assert!(said.ends_with("\nHello\n"), "{said}");
}

#[test]
fn what_cannot_start_is_named_and_nothing_is_left() {
    let daemon = fake();
    let dir = tempfile::tempdir().unwrap();
    let file = servers(dir.path(), &json!({}));
    let file = file.to_str().unwrap();
    let unknown = chat(&daemon, &["--mcp", file, "--allow", "picture"], "");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("home__picture"),
        "{unknown:?}"
    );
    assert_ended(dir.path());

    let mut document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    document["mcpServers"]["off"]["disabled"] = false.into();
    fs::write(file, document.to_string()).unwrap();
    fs::remove_file(dir.path().join("pid")).unwrap();
    let failed = chat(&daemon, &["--mcp", file, "--json"], "");
    assert_eq!(failed.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "McpServer");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("\"off\"") && message.contains("/nonexistent"),
        "{message}"
    );
    // The other one may have been killed before it wrote its number.
    if dir.path().join("pid").exists() {
        assert_ended(dir.path());
    }
    fs::write(file, "{\"mcpServers\": {\"a\": {\"command\": 7}}}").unwrap();
    let wrong = chat(&daemon, &["--mcp", file], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr).contains("`mcpServers.a.command` must be"),
        "{wrong:?}"
    );
}

#[test]
fn calls_are_confirmed_in_a_terminal_and_can_be_cancelled() {
    let daemon = fake();
    let dir = tempfile::tempdir().unwrap();
    let file = servers(dir.path(), &json!({}));
    let mut client = Command::new(&*PYTHON);
    client
        .arg(root().join("tests/clients/use_terminal.py"))
        .arg(dir.path())
        .arg(hearthctl())
        .args(["chat", "--system", "You control a home.", "--mcp"])
        .arg(&file)
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .env("XDG_STATE_HOME", dir.path())
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    expect_ok(&mut client);
    assert_ended(dir.path());
}

#[test]
fn a_real_model_calls_a_tool_and_gets_its_result() {
    let Some(model) = real_model("qwen2.5-coder-0.5b") else {
        return;
    };
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ndefault = \"tools\"\ncontext = 4096\n\
                 [sampling]\ntool_call_mode = \"lenient\"\n",
        ..Setup::default()
    });
    fs::copy(model, daemon.models().join("tools.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = root().join("tests/clients/mcp_server.py");
    let args = json!([script, dir.path(), "get_temperature"]);
    let file = servers(dir.path(), &json!({"args": args}));
    let file = file.to_str().unwrap();
    let args = [
        "--json",
        "--mcp",
        file,
        "--allow-all",
        "--tool-rounds",
        "1",
        "--temperature",
        "0",
        "--max-tokens",
        "100",
    ];
    let question = "How warm is it in the kitchen? Read the thermometer.\n";
    let output = chat(&daemon, &args, question);
    ok(&output);
    let events = validate("chat", &output);
    let of = |kind: &'static str| events.iter().filter(move |e| e["type"] == kind);
    let call = of("tool_call").next().expect("a call");
    assert_eq!(call["name"], "home__get_temperature", "{call}");
    assert_eq!(call["arguments"]["room"], "kitchen", "{call}");
    let result = of("tool_result").next().expect("a result");
    assert_eq!(result["status"], "ok", "{result}");
    assert_eq!(result["content"], "It is 31 degrees in the kitchen.");
    // The answer to the result; so small a model may repeat the call as text.
    assert_eq!(of("finished").count(), 2, "{events:?}");
    let answer: Vec<_> = of("token").map(|e| e["text"].clone()).collect();
    assert!(!answer.is_empty(), "{events:?}");
    assert_ended(dir.path());
}
