//! The real `hearthctl` with a separate home directory.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Environment variables of the caller that affect downloads.
const UNSET: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_TOKEN_PATH",
];

pub struct Home {
    pub dir: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub fn output(&self) -> PathBuf {
        self.dir.path().join("model.gguf")
    }

    /// `hearthctl pull REF --output …` with further arguments.
    pub fn pull(&self, reference: &str, more: &[&str]) -> Command {
        let mut command = self.ctl(&["pull", reference, "--output"]);
        command.arg(self.output()).args(more);
        command
    }

    pub fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearthctl"));
        command.args(args).stdin(Stdio::null());
        for name in UNSET {
            command.env_remove(name);
        }
        command
            .env("HOME", self.dir.path())
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
        command
    }

    /// The files kept to resume, partial files first.
    pub fn kept(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("cache/hearthd/downloads");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        files.sort_by_key(|path| path.extension() != Some("part".as_ref()));
        files
    }

    /// Size of the only partial file.
    pub fn part_length(&self) -> u64 {
        let part = self.kept().into_iter().next();
        part.and_then(|path| fs::metadata(path).ok())
            .map_or(0, |m| m.len())
    }

    pub fn result(&self) -> Vec<u8> {
        fs::read(self.output()).unwrap()
    }
}

pub fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// Runs the command, which must succeed. Returns its output.
pub fn run_ok(command: Command) -> String {
    let output = run(command);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    message
}

/// Runs the command, which must fail with this code. Returns its output.
pub fn run_failing(command: Command, code: i32) -> String {
    let output = run(command);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    message
}

/// Waits for a condition, without asserting how long that takes.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "timed out waiting until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
