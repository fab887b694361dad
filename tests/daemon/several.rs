//! Two models in memory, with the real engine.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::client::Streamed;
use crate::harness::{Daemon, ok, root, until};

/// The engines' processes, in the order of their start.
fn engines(daemon: &Daemon) -> Vec<i32> {
    let pid = daemon.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

/// The state of a model, as `hearthctl models` shows it.
fn state(daemon: &Daemon, name: &str) -> String {
    let models: Value = serde_json::from_str(&ok(&daemon.ctl(&["models", "--json"]))).unwrap();
    let mut models = models.as_array().unwrap().iter();
    let model = models.find(|model| model["name"] == name).unwrap();
    model["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_engine_leaves_the_answer_of_another_model() {
    let daemon = Daemon::real();
    let source = root().join("packaging/demo-model/hearth-demo-f16.gguf");
    ok(&daemon.ctl(&["import", &source.display().to_string(), "--name", "mine"]));
    let long = json!({
        "model": "hearth-demo-q8_0", "temperature": 0, "max_tokens": 300, "ignore_eos": true,
        // Else a cached prompt may change last digits, and with them a nonsense text.
        "reproducible": true,
        "messages": [{"role": "user", "content": "What is the capital of Italy?"}],
    });
    let expected = daemon.stream_chat(long.clone());
    ok(&daemon.ctl(&["load", "mine"]));
    let [_, second] = engines(&daemon)[..] else {
        panic!("{:?}", engines(&daemon))
    };
    let running = Streamed::open(&daemon, long);
    kill(Pid::from_raw(second), Signal::SIGKILL).unwrap();
    assert_eq!(running.end(), (expected, Value::Null));
    until("the killed engine is replaced", || {
        daemon.health()["service"]["engine_crashes"] == 1 && state(&daemon, "mine") == "ready"
    });
    assert_eq!(state(&daemon, "hearth-demo-q8_0"), "ready");
    ok(&daemon.ctl(&["unload", "mine"]));
    assert_eq!(state(&daemon, "mine"), "unloaded");
    assert_eq!(state(&daemon, "hearth-demo-q8_0"), "ready");
    assert_eq!(engines(&daemon).len(), 1);
}
