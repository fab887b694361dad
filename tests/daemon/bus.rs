//! The bus: it ends, another process requests the name, callers disconnect.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Bus, Options, SESSION, Streamed, chat, content, counted};
use crate::harness::launch::group;
use crate::harness::{BUS_NAME, Daemon, Setup, error, ok, until};
use crate::not_checked::not_checked;
use crate::storms::{ended, idle};

/// The sockets are served until the bus is back. systemd then restarts the daemon, which
/// requires that it exits with a failure and leaves nothing behind that blocks the start.
#[test]
fn without_its_bus_the_daemon_serves_the_sockets_until_the_bus_is_back() {
    let mut daemon = Daemon::fake("");
    let long = format!("!slow {}", counted(8));
    let running = Streamed::open(&daemon, chat(&long));
    daemon.stop_bus();
    until("it says so", || {
        daemon
            .log()
            .contains("the D-Bus connection was lost: serving the sockets only")
    });
    let (text, failed) = running.end();
    assert!(failed.is_null(), "{failed}");
    assert_eq!(text, long);
    assert_eq!(content(&daemon.chat(&chat("on").to_string())), "on");
    daemon.start_bus();
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
    assert!(daemon.log().contains("D-Bus is available again"));
    daemon.restart();
    assert_eq!(Bus::connect(&daemon).generate("hello").unwrap(), "hello");
}

/// A second daemon, started by hand, does not take the name from the first.
#[test]
fn the_bus_name_cannot_be_taken_over() {
    let daemon = Daemon::fake("");
    let config = daemon.dir.path().join("second.toml");
    let socket = daemon.dir.path().join("second.sock");
    let text = format!("[http]\nsocket = {socket:?}\n");
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::create(daemon.dir.path().join("second.log")).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_hearthd"))
        .arg("--config")
        .arg(&config)
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(daemon.dir.path().join("second.log")).unwrap();
    until("the second is ready", || said().contains("ready"));
    assert!(
        said().contains("D-Bus is not available (name already taken"),
        "{}",
        said()
    );
    // The first one, which has the model, still owns the name.
    assert_eq!(Bus::connect(&daemon).generate("hello").unwrap(), "hello");
    // Neither does one that requests it with replacement.
    let force = ["su", BUS_NAME, "3"];
    let mut busctl = Command::new("busctl");
    let busctl = busctl.arg(format!("--address={}", daemon.bus_address()));
    let busctl = busctl.args(["call", "org.freedesktop.DBus", "/org/freedesktop/DBus"]);
    let busctl = busctl
        .args(["org.freedesktop.DBus", "RequestName"])
        .args(force);
    // 2: in the queue for the name.
    assert_eq!(ok(&busctl.output().unwrap()).trim(), "u 2");
    kill(Pid::from_raw(second.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(Bus::connect(&daemon).generate("still").unwrap(), "still");
}

#[test]
fn calls_of_a_disconnected_caller_are_cancelled() {
    let daemon = Daemon::fake("token-ms=20");
    let long = "long ".repeat(400);
    let request = chat(&long).to_string();
    let object = "/org/hearthd/Inference1";
    let mut calls: Vec<(&str, &str, Vec<String>)> = vec![
        (object, "Generate", vec!["s".into(), long.clone()]),
        (
            object,
            "GenerateJson",
            vec!["ss".into(), long.clone(), "{}".into()],
        ),
        (object, "Chat", vec!["s".into(), request]),
    ];
    let bus = Bus::connect(&daemon);
    let session = bus.open_session(&Options::new()).unwrap();
    let say = vec!["sa{sv}".into(), long.clone(), "0".into()];
    calls.push((&session, "Generate", say));
    for (n, (path, method, args)) in (1..).zip(&calls) {
        let interface = if *path == object { BUS_NAME } else { SESSION };
        let mut caller = Command::new("busctl")
            .arg(format!("--address={}", daemon.bus_address()))
            .args(["--timeout=60", "call", BUS_NAME, path, interface, method])
            .args(args)
            .spawn()
            .unwrap();
        until("it is worked on", || {
            daemon.health()["service"]["active_jobs"] == 1
        });
        caller.kill().unwrap();
        caller.wait().unwrap();
        until("it is cancelled", || ended(&daemon, "cancelled") == n);
        idle(&daemon);
    }
    assert_eq!(content(&daemon.chat(&chat("after").to_string())), "after");
    assert_eq!(ended(&daemon, "finished"), 1);
}

/// The shipped policy and the mode of the socket, with accounts that every Debian has:
/// nobody runs the daemon, sync is a member of the group, and games is not.
#[test]
fn only_members_of_the_group_have_access() {
    if !nix::unistd::geteuid().is_root() {
        not_checked("who is let in: several accounts need root");
        return;
    }
    let daemon = Daemon::start(Setup {
        user: 65534,
        ..Setup::default()
    });
    let group = group().to_string();
    let run = |uid: &str, gid: &str, words: &[&str]| {
        let mut setpriv = Command::new("setpriv");
        let setpriv = setpriv.args(["--reuid", uid, "--regid", gid, "--groups", gid]);
        setpriv.args(words).output().unwrap()
    };
    let address = format!("--address={}", daemon.bus_address());
    let object = [BUS_NAME, "/org/hearthd/Inference1"];
    let generate = [BUS_NAME, "Generate", "s", "hello"];
    let by_bus = [&["busctl", &address, "call"], &object[..], &generate].concat();
    let property = [
        &["busctl", &address, "get-property"],
        &object[..],
        &[BUS_NAME, "Model"],
    ];
    let property = property.concat();
    let shown = [&["busctl", &address, "introspect"], &object[..]].concat();
    let socket = daemon.socket().display().to_string();
    let url = "http://localhost/api/generate";
    let body = r#"{"prompt": "hello", "stream": false}"#;
    let by_socket = ["curl", "-sS", "--unix-socket", &socket, "-d", body, url];
    for (words, answer) in [
        (&by_bus[..], "s \"hello\""),
        (&property, "s \"fake\""),
        (&shown, ".GenerateJson"),
        (&by_socket, "\"response\":\"hello\""),
    ] {
        let said = ok(&run("4", &group, words));
        assert!(said.contains(answer), "{words:?}: {said}");
        let said = error(&run("5", "60", words)).to_lowercase();
        let is_refused = ["access denied", "rejected", "permission denied", "connect"];
        assert!(
            is_refused.iter().any(|r| said.contains(r)),
            "{words:?}: {said}"
        );
    }
    assert_eq!(ended(&daemon, "finished"), 2);
}
