//! Usage, exit codes, and the JSON form of failures.

use std::fs;
use std::io;
use std::process::Stdio;

use hearth_proto::FailureKind;

use crate::COMMANDS;
use crate::harness::{failure, failure_kind, hearthctl, run, stderr, stdout};

#[test]
fn help_lists_the_commands_and_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    for code in ["\n  0 ", "\n  3 ", "\n  4 ", "\n  5 ", "\n  6 ", "\n  130 "] {
        assert!(help.contains(code), "exit code {code}");
    }
    assert!(!help.contains("generate-man"), "hidden commands are hidden");
    assert!(!help.contains('\x1b'), "no colour without a terminal");
}

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = stdout(&output);
        assert!(help.contains("--json"), "{command}");
        assert!(help.contains("--bus-address"), "{command}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["status", "--frobnicate"],
        &["generate", "--priority", "urgent", "x"],
        &["generate", "--temperature", "-1", "x"],
        &["--bus-address", "nonsense", "status"],
        &["cancel", "../1"],
        // Standard input is empty, so there is no prompt.
        &["generate"],
        &["submit", "-"],
        &["prewarm"],
        &["prewarm", "-"],
        &["prewarm", "/nonexistent/prompt"],
        &["count-tokens", "  "],
        &["import", "/nonexistent/model.gguf"],
        &["fit"],
        &["fit", "/nonexistent/model.gguf"],
        &["fit", "--kv-type", "q3", "x"],
        &["fit", "--memory", "0", "x"],
        &["import", "/"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
        assert_ne!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn wrong_usage_has_a_json_form_too() {
    for args in [&["frobnicate", "--json"][..], &["--json", "generate"]] {
        let output = run(args);
        assert_eq!(failure(&output)["kind"], "Usage", "{args:?}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn json_has_versions_and_an_unknown_one_is_refused() {
    for args in [
        &["simulate", "--json=1", "--list"][..],
        &["--json=1", "simulate", "--list"],
    ] {
        let output = run(args);
        assert!(stdout(&output).starts_with("[{\"name\""), "{args:?}");
    }
    let output = run(&["--json=2", "simulate", "--list"]);
    let failure = failure(&output);
    assert_eq!(
        (&failure["kind"], output.status.code()),
        (&"Usage".into(), Some(2))
    );
    let message = failure["message"].as_str().expect("a message");
    assert!(
        message.contains("--json") && message.contains("possible values: 1"),
        "{message}"
    );
    // The value is part of the word: what follows is an argument.
    assert_eq!(run(&["--json", "1"]).status.code(), Some(2));
}

#[test]
fn an_unreachable_service_is_exit_code_3() {
    for args in [
        &["generate", "x"][..],
        &["chat"],
        &["status"],
        &["status", "--watch"],
        &["models"],
        &["load"],
        &["unload"],
        &["remove", "x"],
        &["jobs"],
        &["submit", "x"],
        &["prewarm", "Cargo.toml"],
        &["result", "1"],
        &["cancel", "/org/hearthd/Inference1/jobs/1"],
        &["count-tokens", "x"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
        let message = stderr(&output);
        assert!(message.starts_with("error: "), "{args:?}: {message}");
        assert!(message.contains("systemctl status hearthd"), "{message}");
        assert!(!message.contains('\x1b'), "no colour without a terminal");
    }
}

#[test]
fn the_bus_address_is_that_of_the_option() {
    let output = run(&["status"]);
    assert!(
        stderr(&output).contains("hearthctl-test-bus"),
        "from the environment"
    );
    let output = run(&["status", "--bus-address", "unix:path=/nonexistent/other"]);
    assert!(
        stderr(&output).contains("/nonexistent/other"),
        "from the option"
    );
}

#[test]
fn a_failure_is_one_json_document() {
    let output = run(&["--json", "status"]);
    let failure = failure(&output);
    assert_eq!(failure["kind"], "Unreachable");
    assert!(failure["message"].as_str().is_some_and(|m| !m.is_empty()));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_file_that_is_no_model_is_refused_before_it_is_copied() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("notes.gguf");
    fs::write(&file, "GGU").expect("a file");
    let output = run(&["import", "--json", file.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(failure_kind(&output), FailureKind::ModelInvalid);
}

#[test]
fn a_closed_reader_is_no_panic() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    for args in [&["--help"][..], &["--json", "status"]] {
        let output = hearthctl(args)
            .stdout(writer.try_clone().expect("a second end"))
            .stderr(Stdio::piped())
            .output()
            .expect("hearthctl starts");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}
