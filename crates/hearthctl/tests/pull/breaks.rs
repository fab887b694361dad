//! Interrupted downloads are resumed.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Home, run, run_failing, run_ok, until};
use crate::models::{bytes, sha256};
use crate::not_checked::not_checked;
use crate::servers::{Answer, Fault, Request, Server};

const TAG: &str = "\"one\"";
const MIB: usize = 1 << 20;

/// Sends `model`; applies the fault to the first request only.
fn faulty(model: &Arc<Vec<u8>>, fault: Fault) -> Server {
    let model = Arc::clone(model);
    Server::start(move |request, before| {
        let fault = if before == 0 { fault } else { Fault::None };
        Answer::file(request, &model, TAG).but(fault)
    })
}

#[test]
fn a_broken_connection_is_resumed_in_the_same_run() {
    let model = Arc::new(bytes(3 * MIB, 1));
    let server = faulty(&model, Fault::Cut(MIB));
    let home = Home::new();
    let message = run_ok(home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]));
    assert!(message.contains("retrying in"), "{message}");
    assert_eq!(home.result(), *model);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].range(), Some(MIB));
    assert_eq!(seen[1].header("if-range"), Some(TAG));
    assert!(home.kept().is_empty(), "{:?}", home.kept());
}

#[test]
fn a_killed_download_is_resumed_by_the_next_run() {
    let model = Arc::new(bytes(3 * MIB, 2));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let pull = || home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]);
    let mut child = pull().spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.output().exists());

    run_ok(pull());
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), Some(MIB));
}

#[test]
fn ctrl_c_keeps_the_part_and_tells_how_to_resume() {
    let model = Arc::new(bytes(3 * MIB, 3));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let pull = || home.pull(&server.url("/x.gguf"), &[]);
    let child = pull().stderr(Stdio::piped()).spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(
        message.contains("1.0 MiB are kept") && message.contains("the same command"),
        "{message}"
    );

    run_ok(pull());
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), Some(MIB));
}

#[test]
fn after_a_power_cut_only_what_was_synced_counts() {
    let model = Arc::new(bytes(40 * MIB, 4));
    let server = faulty(&model, Fault::Stall(35 * MIB));
    let home = Home::new();
    let pull = || home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]);
    let mut child = pull().spawn().unwrap();
    until("a part is there", || home.part_length() >= 35 * MIB as u64);
    child.kill().unwrap();
    child.wait().unwrap();

    // The state after a reboot: another boot ID, and zeros where data had not been
    // written.
    let kept = home.kept();
    let state = fs::read_to_string(&kept[1]).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(state.contains(boot.trim()), "{state}");
    fs::write(&kept[1], state.replace(boot.trim(), "an-earlier-run")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&state).unwrap();
    let synced = document["synced"].as_u64().unwrap();
    assert!(
        (32 * MIB as u64..36 * MIB as u64).contains(&synced),
        "{state}"
    );
    let part = fs::OpenOptions::new().write(true).open(&kept[0]).unwrap();
    part.set_len(synced).unwrap();
    part.set_len(39 * MIB as u64).unwrap();

    run_ok(pull());
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range().map(|n| n as u64), Some(synced));
}

#[test]
fn an_invalid_state_starts_over() {
    let model = Arc::new(bytes(3 * MIB, 5));
    let server = faulty(&model, Fault::Cut(MIB));
    let home = Home::new();
    let pull = |more: &[&str]| home.pull(&server.url("/x.gguf"), more);
    run_failing(pull(&["--retries", "0"]), 6);
    fs::write(&home.kept()[1], "{\"url\":").unwrap();
    run_ok(pull(&[]));
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), None);
}

#[test]
fn without_ranges_the_whole_file_is_requested() {
    let model = Arc::new(bytes(3 * MIB, 6));
    let sent = Arc::clone(&model);
    let server = Server::start(move |_, before| {
        let fault = if before == 0 {
            Fault::Cut(MIB)
        } else {
            Fault::None
        };
        Answer::body(sent.to_vec()).with("ETag", TAG).but(fault)
    });
    let home = Home::new();
    let message = run_ok(home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]));
    assert!(message.contains("starting over"), "{message}");
    assert_eq!(home.result(), *model);
}

#[test]
fn a_file_that_changed_between_two_attempts_starts_over() {
    let (old, new) = (bytes(3 * MIB, 7), Arc::new(bytes(2 * MIB, 8)));
    let sent = Arc::clone(&new);
    let server = Server::start(move |request, before| match before {
        0 => Answer::file(request, &old, TAG).but(Fault::Cut(MIB)),
        _ => Answer::file(request, &sent, "\"two\""),
    });
    let home = Home::new();
    run_failing(home.pull(&server.url("/x.gguf"), &["--retries", "0"]), 6);
    let message = run_ok(home.pull(&server.url("/x.gguf"), &[]));
    assert!(message.contains("changed"), "{message}");
    assert_eq!(home.result(), *new);
}

#[test]
fn a_server_that_ignores_if_range_is_detected_by_the_tag() {
    let (old, new) = (bytes(3 * MIB, 9), Arc::new(bytes(3 * MIB, 10)));
    let sent = Arc::clone(&new);
    let server = Server::start(move |request, before| {
        if before == 0 {
            return Answer::file(request, &old, TAG).but(Fault::Cut(MIB));
        }
        let mut request = request.clone();
        request.headers.remove("if-range");
        Answer::file(&request, &sent, "\"two\"")
    });
    let home = Home::new();
    run_ok(home.pull(&server.url("/x.gguf"), &[]));
    assert_eq!(home.result(), *new);
    let ranges: Vec<_> = server.seen().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some(MIB), None]);
}

#[test]
fn retries_end_and_the_part_is_kept() {
    let model = Arc::new(bytes(3 * MIB, 11));
    let sent = Arc::clone(&model);
    let server =
        Server::start(move |request, _| Answer::file(request, &sent, TAG).but(Fault::Cut(0)));
    let home = Home::new();
    let message = run_failing(home.pull(&server.url("/x.gguf"), &["--retries", "1"]), 6);
    assert!(message.contains("tried 2 times"), "{message}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_silent_server_is_retried() {
    let model = Arc::new(bytes(2 * MIB, 12));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let message = run_ok(home.pull(&server.url("/x.gguf"), &["--timeout", "1"]));
    assert!(message.contains("does not respond"), "{message}");
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), Some(MIB));
}

#[test]
fn two_downloads_of_one_file_exclude_each_other() {
    let model = Arc::new(bytes(2 * MIB, 13));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let mut first = home.pull(&server.url("/x.gguf"), &[]).spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    let mut second = home.ctl(&["pull", &server.url("/x.gguf"), "--output"]);
    second.arg(home.dir.path().join("other.gguf"));
    let message = run_failing(second, 2);
    assert!(message.contains("another hearthctl"), "{message}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_full_disk_is_detected_before_the_first_byte() {
    let model = Arc::new(bytes(3 * MIB, 14));
    let server = faulty(&model, Fault::None);
    let home = Home::new();
    let pull = home.pull(&server.url("/x.gguf"), &[]);
    let cache = home.dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let mut command = std::process::Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("-r");
    }
    let script = format!(
        "mount -t tmpfs -o size=18m none {} && exec \"$@\"",
        cache.display()
    );
    command.args(["-m", "sh", "-c", &script, "sh"]);
    command.arg(pull.get_program()).args(pull.get_args());
    for (name, value) in pull.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = run(command);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    if message.contains("unshare") || message.contains("mount:") {
        not_checked("a full disk: this machine allows no mount namespaces");
        return;
    }
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains("3.0 MiB more are needed") && message.contains("XDG_CACHE_HOME"),
        "{message}"
    );
}
