//! Commands on model files: evaluate, quantize, imatrix, advise, bench shape.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::not_checked::not_checked;
use super::{accepted, engine, failure, hearthctl, run, stderr, stdout};

/// A folder with a model of random weights, 256 wide.
fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("f16.gguf");
    make(&model, "2,256,512,4,2,600", "f16");
    (dir, model)
}

fn make(path: &Path, shape: &str, kind: &str) {
    let made = Command::new(engine())
        .args(["make-model", "--shape", shape, "--type", kind, "--out"])
        .arg(path)
        .status();
    assert!(made.expect("the engine starts").success());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn document(args: &[&str]) -> Value {
    let output = run(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}{}",
        stdout(&output),
        stderr(&output)
    );
    serde_json::from_str(&stdout(&output)).expect("one document")
}

/// The names in a folder.
fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_model_is_shrunk_judged_and_chosen() {
    let (dir, model) = folder();
    let path = |name: &str| dir.path().join(name);
    let (matrix, q4, q8) = (path("m.imatrix"), path("q4_0.gguf"), path("q8_0.gguf"));
    fs::write(
        path("text"),
        "Something to read, over and over again. ".repeat(60),
    )
    .expect("a text");

    let made = document(&[
        "imatrix",
        text(&model),
        text(&path("text")),
        "-o",
        text(&matrix),
        "--context",
        "128",
        "--json",
    ]);
    assert_eq!(made["matrices"], 14, "{made}");
    assert_eq!(made["chunk_tokens"], 128);
    let shrunk = document(&[
        "quantize",
        text(&model),
        text(&q4),
        "--type",
        "q4_0",
        "--imatrix",
        text(&matrix),
        "--json",
    ]);
    assert_eq!(shrunk["ran"], true);
    assert_eq!(
        shrunk["bytes_after"],
        fs::metadata(&q4).expect("made").len()
    );
    let output = run(&["quantize", text(&model), text(&q8), "--type", "Q8_0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("BITS/WEIGHT"),
        "{}",
        stdout(&output)
    );

    let figures = judged(&dir, &model, &q4, &q8);
    advised(&dir, &figures, &q4, &q8);
}

/// The divergence of a model from the reference.
fn far(figures: &Value, n: usize) -> f64 {
    let mean = &figures["models"][n]["text"]["divergence"]["mean"];
    mean.as_f64().expect("a number")
}

fn judged(dir: &TempDir, model: &Path, q4: &Path, q8: &Path) -> Value {
    let path = |name: &str| dir.path().join(name);
    let questions = path("questions.jsonl");
    let question = json!({
        "id": "one", "messages": [{"role": "user", "content": "?"}], "tools": null,
        "accept": ["no model of random weights says this"],
    });
    fs::write(&questions, format!("{question}\n\n")).expect("questions");
    let plot = path("plot.svg");
    let figures = document(&[
        "evaluate",
        text(q4),
        text(model),
        text(q8),
        "--context",
        "128",
        "--runs",
        "1",
        "--questions",
        text(&questions),
        "--plot",
        text(&plot),
        "--json",
    ]);
    assert_eq!(
        figures["reference"],
        text(model),
        "the largest is the reference"
    );
    let models = figures["models"].as_array().expect("a list");
    let order: Vec<&str> = models.iter().filter_map(|m| m["path"].as_str()).collect();
    assert_eq!(order, [text(model), text(q4), text(q8)]);
    assert!(models[0]["text"]["divergence"].is_null());
    assert!(
        far(&figures, 2) > 0.0 && far(&figures, 1) > 10.0 * far(&figures, 2),
        "{models:?}"
    );
    for model in models {
        assert!(
            model["text"]["perplexity"]
                .as_f64()
                .is_some_and(|p| p > 1.0)
        );
        assert_eq!(model["accuracy"]["of"], 1);
        assert_eq!(model["accuracy"]["wrong"][0], "one");
        assert!(
            model["speed"]["decode_tokens_per_s"]
                .as_f64()
                .is_some_and(|s| s > 0.0)
        );
        assert!(
            model["speed"]["resident_bytes"]
                .as_u64()
                .is_some_and(|b| b > 1 << 20)
        );
    }
    accepted("xmllint", &["--noout"], &plot);
    assert!(fs::read_to_string(&plot).expect("a plot").contains("q4_0"));

    figures
}

fn advised(dir: &TempDir, figures: &Value, q4: &Path, q8: &Path) {
    let path = |name: &str| dir.path().join(name);
    let file = path("figures.json");
    fs::write(&file, figures.to_string()).expect("figures");
    let advice = document(&["advise", "--from", text(&file), "--memory", "500", "--json"]);
    let small = if far(figures, 1) < 0.01 { q4 } else { q8 };
    assert_eq!(advice["chosen"], text(small), "{advice}");
    assert!(
        advice["why"]
            .as_str()
            .is_some_and(|why| why.contains("of 3 that fit")),
        "{advice}"
    );
    let output = run(&["advise", "--from", text(&file), "--memory", "1"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("none of them fits"),
        "{}",
        stderr(&output)
    );
    let output = run(&["advise", text(q4), text(q8), "--memory", "500"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("<- take this"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn other_vocabularies_are_judged_by_the_byte() {
    let (dir, model) = folder();
    let other = dir.path().join("other.gguf");
    make(&other, "2,64,128,2,1,300", "q8_0");
    let output = run(&[
        "evaluate",
        text(&model),
        text(&other),
        "--runs",
        "0",
        "--context",
        "64",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("PER BYTE"), "{}", stdout(&output));
    assert!(stderr(&output).contains("other has no divergence: its vocabulary has 300 tokens"));
    assert!(stderr(&output).contains("the text that comes with hearthctl"));
}

#[test]
fn quantize_takes_nothing_from_anyone_and_leaves_nothing_behind() {
    let (dir, model) = folder();
    let out = dir.path().join("out.gguf");
    fs::write(&out, "mine").expect("a file");
    for target in [&out, &model] {
        let output = run(&["quantize", text(&model), text(target), "--type", "q4_0"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("left as it is"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(fs::read(&out).expect("still there"), b"mine");
    fs::remove_file(&out).expect("removed");

    let output = run(&[
        "quantize",
        text(&model),
        text(&out),
        "--type",
        "IQ2_XXS",
        "--json",
    ]);
    assert_eq!(failure(&output)["kind"], "InvalidArgs");
    let output = run(&[
        "quantize",
        text(&model),
        "/nonexistent/out.gguf",
        "--type",
        "q4_0",
    ]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = run(&[
        "quantize",
        "/nonexistent.gguf",
        text(&out),
        "--type",
        "q4_0",
        "--json",
    ]);
    assert_eq!(failure(&output)["kind"], "ModelNotFound");
    let output = run(&["quantize", text(&model), text(&out), "--type", "Q4KM"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("did you mean Q4_K_M?"),
        "{}",
        stderr(&output)
    );
    assert_eq!(names(&dir), ["f16.gguf"]);
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("f16.gguf");
    // Large enough to be interrupted: 70 MB, into a slow type.
    make(&model, "8,512,2048,8,4,20000", "f16");
    let out = dir.path().join("out.gguf");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = hearthctl(&["quantize", text(&model), text(&out), "--type", "q5_k_m"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hearthctl starts");
        for _ in 0..30_000 {
            if names(&dir).len() > 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(
            names(&dir).iter().any(|name| name.ends_with(".partial")),
            "{signal:?}"
        );
        let id = Pid::from_raw(child.id().cast_signed());
        kill(id, signal).expect("a signal is sent");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{signal:?}");
        assert_eq!(names(&dir), ["f16.gguf"], "{signal:?}");
    }
}

/// On a small file system, if this user may mount one.
#[test]
fn a_full_disk_is_seen_before_anything_is_written() {
    let (dir, model) = folder();
    let script = format!(
        "mkdir {0}/small && mount -t tmpfs -o size=256k none {0}/small || exit 77; \
         {1} quantize {2} {0}/small/out.gguf --type q8_0 --json; code=$?; \
         ls -A {0}/small | wc -l; exit $code",
        text(dir.path()),
        env!("CARGO_BIN_EXE_hearthctl"),
        text(&model),
    );
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .output()
        .expect("unshare starts");
    // The script counts the files if the mount succeeds, whatever the result.
    if output.stdout.is_empty() {
        let why = stderr(&output);
        not_checked(&format!("a full disk: no mount namespaces here: {why}"));
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = stdout(&output);
    let mut lines = lines.lines();
    let document: Value = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
    let message = document["error"]["message"].as_str().expect("a message");
    assert!(message.contains("are free in"), "{message}");
    assert_eq!(lines.next().map(str::trim), Some("0"), "nothing is left");
}

#[test]
fn bad_figures_and_questions_are_named_by_line() {
    let (dir, model) = folder();
    let file = dir.path().join("lines");
    for (lines, says) in [
        ("{\"id\": 1}", "line 1"),
        (
            "\n{\"id\": \"a\", \"messages\": []}",
            "line 2: it has no messages",
        ),
        (
            "{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"?\"}]}",
            "it needs `accept`",
        ),
        ("", "holds no question"),
    ] {
        fs::write(&file, lines).expect("written");
        let output = run(&["evaluate", text(&model), "--questions", text(&file)]);
        assert_eq!(output.status.code(), Some(2), "{lines}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let output = run(&["advise", "--from", text(&file)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("evaluate --json"),
        "{}",
        stderr(&output)
    );
    fs::write(&file, "short").expect("written");
    let output = run(&["evaluate", text(&model), "--text", text(&file), "--json"]);
    assert_eq!(failure(&output)["kind"], "InvalidArgs");
    assert!(stdout(&output).contains("5 tokens"), "{}", stdout(&output));
}

#[test]
fn a_shape_is_measured_without_a_model() {
    let result = document(&[
        "bench",
        "shape",
        "demo",
        "--type",
        "q4_0",
        "--threads",
        "1,2",
        "--runs",
        "1",
        "--prompt-tokens",
        "16",
        "--tokens",
        "4",
        "--json",
    ]);
    let rows = result["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    for row in rows {
        for key in [
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "read_bytes_per_s",
            "share_of_limit",
        ] {
            assert!(row[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {row}");
        }
    }
    assert_eq!(
        result["weight_bytes"], result["bytes_per_token"],
        "tied embeddings"
    );
    let output = run(&["bench", "shape", "gpt-5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("llama-3.2-1b"),
        "{}",
        stderr(&output)
    );
    let output = run(&["bench", "shape", "demo", "--type", "q9"]);
    assert_eq!(output.status.code(), Some(2));
}
