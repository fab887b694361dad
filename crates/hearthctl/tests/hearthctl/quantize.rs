//! `quantize`: what it refuses, and what it leaves behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hearth_proto::FailureKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{failure_kind, hearthctl, make_model, run, stderr, stdout, text};
use crate::not_checked::not_checked;

/// A folder with a model of random weights, 256 wide.
pub fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("f16.gguf");
    make_model(&model, "2,256,512,4,2,600", "f16");
    (dir, model)
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
fn quantize_replaces_nothing_and_leaves_nothing_behind() {
    let (dir, model) = folder();
    let out = dir.path().join("out.gguf");
    fs::write(&out, "mine").expect("a file");
    for target in [&out, &model] {
        let output = run(&["quantize", text(&model), text(target), "--type", "q4_0"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("already exists"),
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
    assert_eq!(failure_kind(&output), FailureKind::InvalidArgs);
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
    assert_eq!(failure_kind(&output), FailureKind::ModelNotFound);
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
    make_model(&model, "8,512,2048,8,4,20000", "f16");
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
fn a_full_disk_is_detected_before_anything_is_written() {
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
