//! The output of hearthctl with `--json` against the schemas that its manual page is
//! made from. Fields that they do not describe are an error here.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::Mutex;

use hearth_gguf::synthetic::{Encoder, make_encoder};
use serde_json::{Value, json};

use crate::harness::{Daemon, Engine, Setup, ok, root, text};
use crate::tune::set_temperature;

/// The commands that were validated.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Checks each line of the output of a command.
pub fn validate(command: &str, output: &Output) -> Vec<Value> {
    let file = root().join(format!("crates/hearthctl/src/docs/json/{command}.json"));
    let schema = fs::read(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
    let mut schema: Value = serde_json::from_slice(&schema).unwrap();
    close(&mut schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let lines = text(&output.stdout);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(!lines.is_empty(), "{command}: {output:?}");
    for line in &lines {
        let errors: Vec<_> = validator.iter_errors(line).collect();
        assert!(errors.is_empty(), "{command}: {errors:?} in {line}");
    }
    SEEN.lock().unwrap().insert(command.to_owned());
    lines
}

/// Forbids undescribed fields, except where `x-open` says that they are described
/// elsewhere.
fn close(schema: &mut Value) {
    let is_open = schema["x-open"] == true;
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) && !is_open {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Runs a command, which must succeed, and checks its output.
fn check(daemon: &Daemon, command: &str, args: &[&str]) -> Vec<Value> {
    let mut words: Vec<&str> = command.split('-').collect();
    if !matches!(words[0], "cache" | "bench") {
        words = vec![command];
    }
    let output = daemon.ctl(&[&["--json=1"], &words[..], args].concat());
    ok(&output);
    validate(command, &output)
}

const MODEL: &str = "hearth-demo-q8_0";
const QUESTION: &str = "What is the capital of Italy?";

fn model_file(name: &str) -> String {
    let path = root().join("packaging/demo-model").join(name);
    path.display().to_string()
}

#[test]
fn every_command_prints_what_its_schema_describes() {
    requests_and_jobs();
    models_and_the_cache();
    measurements_and_files();
    let folder = root().join("crates/hearthctl/src/docs/json");
    let all = fs::read_dir(folder).unwrap();
    let all = all.map(|entry| entry.unwrap().path());
    let mut all: BTreeSet<String> = all
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    // Its test is in `pull.rs`, which has the server.
    all.remove("pull");
    let seen = SEEN.lock().unwrap();
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "no output of {missing:?} was checked");
}

fn requests_and_jobs() {
    let daemon = Daemon::real();
    check(&daemon, "status", &[]);
    let loaded = check(&daemon, "load", &[MODEL]);
    assert!(loaded[0]["context_size"].as_u64() > Some(0), "{loaded:?}");
    let events = check(&daemon, "generate", &[QUESTION]);
    assert_eq!(events.last().unwrap()["type"], "finished");
    let whole = check(&daemon, "generate", &["--no-stream", QUESTION]);
    assert!(
        whole[0]["text"].as_str().unwrap().contains("Rome"),
        "{whole:?}"
    );
    // A call.
    let tools = daemon.dir.path().join("tools.json");
    let tool = json!([{"type": "function", "function": {"name": "f", "description": "f",
        "parameters": {"type": "object", "properties": {}}}}]);
    fs::write(&tools, tool.to_string()).unwrap();
    check(
        &daemon,
        "generate",
        &["--tools", tools.to_str().unwrap(), QUESTION],
    );

    let mut chat = daemon
        .ctl_command(&["--json", "chat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = chat.stdin.take().unwrap();
    writeln!(input, "{QUESTION}").unwrap();
    drop(input);
    validate("chat", &chat.wait_with_output().unwrap());

    let id = check(&daemon, "submit", &[QUESTION])[0]["id"].clone();
    let id = id.as_str().unwrap();
    check(&daemon, "submit", &["--wait", QUESTION]);
    check(&daemon, "result", &[id]);
    let cancelled = check(&daemon, "cancel", &[id]);
    assert_eq!(cancelled[0]["cancelled"], false);
    let jobs = check(&daemon, "jobs", &[]);
    assert!(jobs[0].as_array().is_some_and(|jobs| jobs.len() > 1));
    check(&daemon, "embed", &["a", "b"]);
    check(&daemon, "count-tokens", &["a b"]);
    let failed = daemon.ctl(&["--json", "result", "999"]);
    assert!(!failed.status.success());
    let error = &validate("error", &failed)[0]["error"];
    assert_eq!(
        error["exit_code"].as_i64(),
        failed.status.code().map(i64::from)
    );
    let status = check(&daemon, "status", &[]);
    assert_eq!(status[0]["state"], "ready");
}

fn models_and_the_cache() {
    let daemon = Daemon::real();
    let file = model_file("hearth-demo-q8_0.gguf");
    check(&daemon, "import", &["--name", "copy", &file]);
    let models = check(&daemon, "models", &[]);
    assert!(models[0].as_array().is_some_and(|models| models.len() > 1));
    check(&daemon, "models", &["--fit"]);
    check(&daemon, "fit", &[&file]);
    check(&daemon, "load", &["copy"]);
    check(&daemon, "unload", &["copy"]);
    check(&daemon, "unload", &[]);
    check(&daemon, "remove", &["copy"]);

    let prompt = daemon.dir.path().join("prompt");
    fs::write(&prompt, "You control the lamps of a home. ".repeat(60)).unwrap();
    check(&daemon, "prewarm", &[prompt.to_str().unwrap()]);
    crate::harness::until("the prompt is on disk", || {
        check(&daemon, "cache-list", &[])[0] != json!([])
    });
    check(&daemon, "cache-verify", &[]);
    let cleared = check(&daemon, "cache-clear", &[]);
    assert!(cleared[0]["cleared"].as_u64() >= Some(1), "{cleared:?}");

    let reranker = daemon.models().join("rerank.gguf");
    make_encoder(&reranker, Encoder::BertReranker, 5).unwrap();
    let lines = daemon.dir.path().join("lines");
    fs::write(&lines, "a cat\na dog\n").unwrap();
    let args = ["--model", "rerank", "cat", lines.to_str().unwrap()];
    let ranked = check(&daemon, "rerank", &args);
    assert_eq!(ranked[0]["results"].as_array().map(Vec::len), Some(2));
}

fn measurements_and_files() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[engine]\nthreads = 2\n",
        ..Setup::default()
    });
    set_temperature(&daemon, 40);
    check(&daemon, "tune", &[MODEL]);
    check(&daemon, "tune", &["--show"]);
    check(&daemon, "tune", &["--clear"]);
    let (small, large) = (
        model_file("hearth-demo-q8_0.gguf"),
        model_file("hearth-demo-f16.gguf"),
    );
    let short = ["--runs", "1", "--tokens", "8", "--prompt-tokens", "64"];
    check(
        &daemon,
        "bench-model",
        &[&[small.as_str()], &short[..]].concat(),
    );
    let short = [&["demo", "--threads", "1"], &short[..]].concat();
    check(&daemon, "bench-shape", &short);
    let socket = daemon.socket().display().to_string();
    let args = [
        "--unix", &socket, "--model", MODEL, "--runs", "1", "--tokens", "8",
    ];
    check(&daemon, "bench-study", &args);
    check(&daemon, "evaluate", &[&small, &large]);
    check(&daemon, "advise", &[&small, &large]);
    let out = |name: &str| daemon.dir.path().join(name).display().to_string();
    check(
        &daemon,
        "quantize",
        &[&large, &out("q4.gguf"), "--type", "q4_0"],
    );
    let words = root().join("README.md").display().to_string();
    check(
        &daemon,
        "imatrix",
        &[&large, &words, "--output", &out("imatrix.gguf")],
    );
    check(&daemon, "simulate", &["pi4-poor", "--hours", "0.1"]);
    check(&daemon, "simulate", &["--list"]);
}
