//! The README's examples, run unchanged.

use std::fs;
use std::process::Command;

use crate::harness::{Daemon, hearthctl, ok, root};

#[test]
fn the_examples_work_as_written() {
    let daemon = Daemon::real();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let examples: Vec<&str> = readme
        .split("```sh example\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 5);
    let hearthctl = hearthctl();
    let bin = hearthctl.parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut answers = String::new();
    for example in examples {
        // Nothing is installed here: the socket is elsewhere.
        let here = example.replace(
            "/run/hearthd/hearthd.sock",
            &daemon.socket().display().to_string(),
        );
        let output = Command::new("sh")
            .args(["-ec", &here])
            .env("PATH", &path)
            .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
            .output()
            .unwrap();
        answers.push_str(&ok(&output));
    }
    for part in ["Rome", "Paris", "Tokyo", "kitchen light", "\"ready\""] {
        assert!(answers.contains(part), "{part} is missing:\n{answers}");
    }
}
