//! Interrupted downloads are resumed.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Home, ill, run, until, well};
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
fn a_broken_connection_goes_on_in_the_same_run() {
    let model = Arc::new(bytes(3 * MIB, 1));
    let server = faulty(&model, Fault::Cut(MIB));
    let home = Home::new();
    let said = well(home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]));
    assert!(said.contains("retrying in"), "{said}");
    assert_eq!(home.result(), *model);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].range(), Some(MIB));
    assert_eq!(seen[1].header("if-range"), Some(TAG));
    assert!(home.kept().is_empty(), "{:?}", home.kept());
}

#[test]
fn a_killed_download_goes_on_in_the_next_run() {
    let model = Arc::new(bytes(3 * MIB, 2));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let pull = || home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]);
    let mut child = pull().spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.output().exists());

    well(pull());
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), Some(MIB));
}

#[test]
fn ctrl_c_keeps_the_part_and_says_how_to_go_on() {
    let model = Arc::new(bytes(3 * MIB, 3));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let pull = || home.pull(&server.url("/x.gguf"), &[]);
    let child = pull().stderr(Stdio::piped()).spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("1.0 MiB are kept") && said.contains("the same command"),
        "{said}"
    );

    well(pull());
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

    well(pull());
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range().map(|n| n as u64), Some(synced));
}

#[test]
fn a_spoiled_state_begins_anew() {
    let model = Arc::new(bytes(3 * MIB, 5));
    let server = faulty(&model, Fault::Cut(MIB));
    let home = Home::new();
    let pull = |more: &[&str]| home.pull(&server.url("/x.gguf"), more);
    ill(pull(&["--retries", "0"]), 6);
    fs::write(&home.kept()[1], "{\"url\":").unwrap();
    well(pull(&[]));
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), None);
}

#[test]
fn a_server_without_ranges_sends_it_as_a_whole() {
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
    let said = well(home.pull(&server.url("/x.gguf"), &["--sha256", &sha256(&model)]));
    assert!(said.contains("starting over"), "{said}");
    assert_eq!(home.result(), *model);
}

#[test]
fn a_file_that_changed_between_two_tries_is_fetched_anew() {
    let (old, new) = (bytes(3 * MIB, 7), Arc::new(bytes(2 * MIB, 8)));
    let sent = Arc::clone(&new);
    let server = Server::start(move |request, before| match before {
        0 => Answer::file(request, &old, TAG).but(Fault::Cut(MIB)),
        _ => Answer::file(request, &sent, "\"two\""),
    });
    let home = Home::new();
    ill(home.pull(&server.url("/x.gguf"), &["--retries", "0"]), 6);
    let said = well(home.pull(&server.url("/x.gguf"), &[]));
    assert!(said.contains("changed"), "{said}");
    assert_eq!(home.result(), *new);
}

#[test]
fn a_server_that_ignores_if_range_is_found_out_by_the_tag() {
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
    well(home.pull(&server.url("/x.gguf"), &[]));
    assert_eq!(home.result(), *new);
    let ranges: Vec<_> = server.seen().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some(MIB), None]);
}

#[test]
fn what_never_comes_whole_is_given_up_and_kept() {
    let model = Arc::new(bytes(3 * MIB, 11));
    let sent = Arc::clone(&model);
    let server =
        Server::start(move |request, _| Answer::file(request, &sent, TAG).but(Fault::Cut(0)));
    let home = Home::new();
    let said = ill(home.pull(&server.url("/x.gguf"), &["--retries", "1"]), 6);
    assert!(said.contains("tried 2 times"), "{said}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_silent_server_is_tried_again() {
    let model = Arc::new(bytes(2 * MIB, 12));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let said = well(home.pull(&server.url("/x.gguf"), &["--timeout", "1"]));
    assert!(said.contains("does not respond"), "{said}");
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[1].range(), Some(MIB));
}

#[test]
fn two_at_once_do_not_write_one_file() {
    let model = Arc::new(bytes(2 * MIB, 13));
    let server = faulty(&model, Fault::Stall(MIB));
    let home = Home::new();
    let mut first = home.pull(&server.url("/x.gguf"), &[]).spawn().unwrap();
    until("a part is there", || home.part_length() >= MIB as u64);
    let mut second = home.ctl(&["pull", &server.url("/x.gguf"), "--output"]);
    second.arg(home.dir.path().join("other.gguf"));
    let said = ill(second, 2);
    assert!(said.contains("another hearthctl"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_full_disk_is_seen_before_the_first_byte() {
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
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("unshare") || said.contains("mount:") {
        not_checked("a full disk: this machine allows no mount namespaces");
        return;
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("3.0 MiB more are needed") && said.contains("XDG_CACHE_HOME"),
        "{said}"
    );
}
