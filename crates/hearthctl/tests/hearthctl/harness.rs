//! The real `hearthctl`, without a service.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hearth_proto::FailureKind;
use serde_json::Value;

use crate::executables::beside;
use crate::not_checked::not_checked;

/// An address without a listener.
const NOWHERE: &str = "unix:path=/nonexistent/hearthctl-test-bus";

pub fn hearthctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthctl"));
    command
        .args(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", NOWHERE)
        .stdin(Stdio::null());
    command
}

/// The engine, which creates the models.
pub fn engine() -> PathBuf {
    beside(env!("CARGO_BIN_EXE_hearthctl"), "hearth-engine")
}

pub fn run(args: &[&str]) -> Output {
    hearthctl(args).output().expect("hearthctl starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

/// The error in the only document on standard output.
pub fn failure(output: &Output) -> Value {
    let text = stdout(output);
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(
        document["error"]["exit_code"].as_i64(),
        output.status.code().map(i64::from),
        "{text}"
    );
    document["error"].clone()
}

/// The kind of that error, by the last part of its D-Bus name.
pub fn failure_kind(output: &Output) -> FailureKind {
    let failure = failure(output);
    let name = failure["kind"].as_str().expect("a kind");
    let is = |kind: &FailureKind| kind.names().bus.rsplit('.').next() == Some(name);
    let known = FailureKind::ALL.into_iter().find(is);
    known.unwrap_or_else(|| panic!("{failure}"))
}

/// Checks a file with a tool, if the tool is installed.
pub fn accepted(tool: &str, args: &[&str], path: &Path) {
    let output = Command::new(tool)
        .args(args)
        .arg(path)
        .env("MANPAGER", "cat")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            not_checked(&format!("{}: there is no {tool}", path.display()));
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

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub fn document(args: &[&str]) -> Value {
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

pub fn make_model(path: &Path, shape: &str, kind: &str) {
    let made = Command::new(engine())
        .args(["make-model", "--shape", shape, "--type", kind, "--out"])
        .arg(path)
        .status();
    assert!(made.expect("the engine starts").success());
}
