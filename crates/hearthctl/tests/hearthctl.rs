//! `hearthctl` as a script uses it, without a service: usage, exit codes, the JSON form
//! of failures, and the generated documentation.

#[path = "../../../tests/common/executables.rs"]
mod executables;
#[path = "hearthctl/models.rs"]
mod models;
#[path = "../../../tests/common/not_checked.rs"]
mod not_checked;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use executables::beside;

/// An address without a listener.
const NOWHERE: &str = "unix:path=/nonexistent/hearthctl-test-bus";

/// The visible commands.
const COMMANDS: [&str; 26] = [
    "advise",
    "imatrix",
    "quantize",
    "evaluate",
    "bench",
    "tune",
    "generate",
    "chat",
    "status",
    "top",
    "models",
    "fit",
    "import",
    "pull",
    "load",
    "unload",
    "remove",
    "cache",
    "jobs",
    "submit",
    "result",
    "cancel",
    "embed",
    "prewarm",
    "count-tokens",
    "simulate",
];

fn hearthctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthctl"));
    command
        .args(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", NOWHERE)
        .stdin(Stdio::null());
    command
}

/// The engine, which creates the models.
fn engine() -> PathBuf {
    beside(env!("CARGO_BIN_EXE_hearthctl"), "hearth-engine")
}

fn run(args: &[&str]) -> Output {
    hearthctl(args).output().expect("hearthctl starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

/// The only document on standard output.
fn failure(output: &Output) -> Value {
    let text = stdout(output);
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(
        document["error"]["exit_code"].as_i64(),
        output.status.code().map(i64::from),
        "{text}"
    );
    document["error"].clone()
}

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
fn fit_says_what_a_model_takes_without_a_service() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("half.gguf");
    let path = file.to_str().expect("UTF-8");
    let made = Command::new(engine())
        .args(["make-model", "--shape", "4,256,512,4,2,4000", "--out", path])
        .status();
    assert!(made.expect("the engine starts").success());

    let fits = run(&["fit", path, "--memory", "500", "--context", "2048"]);
    assert_eq!(fits.status.code(), Some(0), "{}", stderr(&fits));
    let table = stdout(&fits);
    for part in ["weights", "KV cache", "2048 tokens", "total", "500.0 MiB"] {
        assert!(table.contains(part), "{part} in {table}");
    }

    let document = run(&[
        "fit",
        path,
        "--memory",
        "500",
        "--kv-type",
        "q8_0",
        "--json",
    ]);
    let document: Value = serde_json::from_str(&stdout(&document)).expect("one document");
    assert_eq!(document["fits"], true);
    assert_eq!(document["kv_type"], "q8_0");
    // Keys of 128 in blocks of 34 bytes, values in 16 bits, 4 blocks, 256 cells a step.
    assert_eq!(
        document["kv_bytes"]
            .as_u64()
            .map(|n| n % (4 * (136 + 256) * 256)),
        Some(0)
    );

    let small = run(&["fit", path, "--memory", "10"]);
    assert_eq!(small.status.code(), Some(4));
    assert!(stdout(&small).contains("total"));
    assert!(
        stderr(&small).contains("the model needs"),
        "{}",
        stderr(&small)
    );

    fs::write(&file, "GGUF and nothing else").expect("a file");
    let broken = run(&["--json", "fit", path]);
    assert_eq!(failure(&broken)["kind"], "ModelInvalid");
    let unknown = run(&["--json", "fit", "no-such-model"]);
    assert_eq!(failure(&unknown)["kind"], "ModelNotFound");
}

#[test]
fn models_that_fit_are_shown_without_a_service() {
    let table = run(&["models", "--fit", "--memory", "1500"]);
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    let table = stdout(&table);
    let line = |name: &str| {
        table
            .lines()
            .find(|l| l.starts_with(name))
            .map(str::to_owned)
    };
    let small = line("qwen2.5-0.5b").expect("is in the catalogue");
    assert!(
        small.contains("Apache-2.0") && !small.contains("no room"),
        "{small}"
    );
    let large = line("qwen3-4b").expect("is in the catalogue");
    assert!(large.contains("no room"), "{large}");

    let document = run(&["models", "--fit", "--memory", "8000", "--json"]);
    let document: Value = serde_json::from_str(&stdout(&document)).expect("one document");
    let all = document.as_array().expect("a list");
    let largest = all
        .iter()
        .find(|m| m["name"] == "qwen3-4b")
        .expect("is there");
    assert_eq!(largest["fits"], true);
    assert_eq!(largest["approximate"], true);
    assert!(largest["context"].as_u64() >= Some(2048), "{largest}");
    assert!(
        largest["source"]
            .as_str()
            .is_some_and(|s| s.starts_with("hf:"))
    );

    let usage = run(&["models", "--memory", "1500"]);
    assert_eq!(usage.status.code(), Some(2));
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
fn nobody_there_is_exit_code_3_with_advice() {
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
fn the_bus_is_the_one_asked_for() {
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
fn what_is_no_model_is_turned_away_before_it_is_copied() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("notes.gguf");
    fs::write(&file, "GGU").expect("a file");
    let output = run(&["import", "--json", file.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(failure(&output)["kind"], "ModelInvalid");
}

#[test]
fn a_reader_that_left_is_no_panic() {
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

#[test]
fn there_is_a_manual_page_for_every_command() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = run(&["generate-man", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut pages = vec!["hearthctl.1".to_owned()];
    pages.extend(COMMANDS.map(|command| format!("hearthctl-{command}.1")));
    for page in &pages {
        let path = dir.path().join(page);
        let text = fs::read_to_string(&path).expect(page);
        assert!(text.contains(".TH hearthctl"), "{page}");
        accepted("man", &["--warnings", "-l"], &path);
    }
    // The only other page is that of the D-Bus interface.
    let interface = dir.path().join("org.hearthd.Inference1.5");
    let text = fs::read_to_string(&interface).expect("the interface's page");
    assert!(text.contains("\n.B OpenSession("), "{text}");
    accepted("man", &["--warnings", "-l"], &interface);
    let files = fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(files, pages.len() + 1, "no page for hidden commands");
}

/// The service is not contacted; none is running.
#[test]
fn a_board_is_simulated_without_a_service() {
    let list = run(&["simulate", "--list"]);
    assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
    assert!(stdout(&list).contains("\npi4-poor "), "{}", stdout(&list));

    let dir = tempfile::tempdir().expect("a temporary folder");
    let plot = dir.path().join("plot.svg");
    let plot_arg = plot.to_str().expect("UTF-8");
    let args = [
        "simulate",
        "pi5-fan",
        "--ambient",
        "38",
        "--events",
        "fan-fails@10m,ambient-5@40m",
    ];
    let output = run(&[&args[..], &["--plot", plot_arg]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("The firmware alone yields"),
        "{}",
        stdout(&output)
    );
    accepted("xmllint", &["--noout"], &plot);

    let output = run(&[&args[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&stdout(&output)).expect("one document");
    assert_eq!(document["limit_celsius"], 80.0);
    assert!(
        document["governed"]["celsius_max"]
            .as_f64()
            .is_some_and(|t| t < 83.0)
    );

    let output = run(&["simulate", "pi5-fan", "--plot", "/nonexistent/plot.svg"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn the_shells_accept_the_completions() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = run(&["generate-completions", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (shell, file) in [
        ("bash", "hearthctl.bash"),
        ("zsh", "_hearthctl"),
        ("fish", "hearthctl.fish"),
    ] {
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).expect(file);
        assert!(text.contains("count-tokens"), "{file}");
        accepted(shell, &["-n"], &path);
    }
}

#[test]
fn documentation_needs_a_folder() {
    for command in ["generate-man", "generate-completions"] {
        let output = run(&[command, "/nonexistent/folder"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
}

/// Checks a file with a tool, if the tool is installed.
fn accepted(tool: &str, args: &[&str], path: &Path) {
    let output = Command::new(tool)
        .args(args)
        .arg(path)
        .env("MANPAGER", "cat")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            not_checked::not_checked(&format!("{}: there is no {tool}", path.display()));
            return;
        }
        other => other.expect(tool),
    };
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{tool} on {}: {}",
        path.display(),
        stderr(&output)
    );
}

#[test]
fn bench_measures_a_model_without_a_service() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tiny.gguf");
    let path = file.to_str().expect("UTF-8");
    let made = Command::new(engine())
        .args(["make-model", "--shape", "2,64,128,2,1,300", "--out", path])
        .status();
    assert!(made.expect("the engine starts").success());

    let measured = run(&["bench", "model", path, "--runs", "1", "--json"]);
    assert_eq!(measured.status.code(), Some(0), "{}", stderr(&measured));
    let result: Value = serde_json::from_str(&stdout(&measured)).expect("one document");
    for speed in ["load_ms", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(result[speed].as_f64().is_some_and(|s| s > 0.0), "{result}");
    }

    fs::write(&file, "GGUF and nothing more").expect("written");
    let broken = run(&["bench", "model", path, "--json"]);
    assert_eq!(broken.status.code(), Some(4), "{}", stderr(&broken));
    assert_eq!(failure(&broken)["kind"], "ModelInvalid");
}
