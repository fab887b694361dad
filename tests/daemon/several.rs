//! Several models in memory, with the real engine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;

use hearth_gguf::synthetic::{Encoder, make_encoder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::client::{self, Streamed};
use crate::executables::beside;
use crate::harness::{Daemon, Engine, Setup, ok, root, until};
use crate::real_models;

const DEMO: &str = "hearth-demo-q8_0";

/// A daemon whose engines compute with one thread each: on a busy machine, the threads of
/// several engines would wait for one another.
fn real() -> Daemon {
    Daemon::start(Setup {
        engine: Engine::Real,
        config: "[engine]\nthreads = 1\n",
        ..Setup::default()
    })
}

/// The engines' processes, in the order of their start.
fn engines(daemon: &Daemon) -> Vec<i32> {
    let pid = daemon.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

/// A model, as `hearthctl models` shows it.
fn model(daemon: &Daemon, name: &str) -> Value {
    let models: Value = serde_json::from_str(&ok(&daemon.ctl(&["models", "--json"]))).unwrap();
    let mut models = models.as_array().unwrap().iter();
    models.find(|model| model["name"] == name).unwrap().clone()
}

fn state(daemon: &Daemon, name: &str) -> String {
    model(daemon, name)["state"].as_str().unwrap().to_owned()
}

/// How often a model has become ready.
fn loads(daemon: &Daemon) -> usize {
    daemon.log().matches("model loaded").count()
}

/// Installs the demo model once more, under another name.
fn install_demo(daemon: &Daemon, name: &str) {
    let source = root().join("packaging/demo-model/hearth-demo-f16.gguf");
    let path = daemon.models().join(format!("{name}.gguf"));
    fs::copy(source, path).unwrap();
}

/// Installs an embedding model as `vectors`: `MiniLM`, or one of random weights.
fn install_embedder(daemon: &Daemon) {
    let path = daemon.models().join("vectors.gguf");
    // tests/models/minilm.py makes it.
    let real = real_models::folder().join("all-minilm-l6-v2-f32.gguf");
    if real.is_file() {
        symlink(real, path).unwrap();
    } else {
        make_encoder(&path, Encoder::Bert, 5).unwrap();
    }
}

#[test]
fn a_killed_engine_leaves_the_answer_of_another_model() {
    let daemon = real();
    install_demo(&daemon, "mine");
    let long = json!({
        "model": DEMO, "temperature": 0, "max_tokens": 300, "ignore_eos": true,
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
    assert_eq!(state(&daemon, DEMO), "ready");
    ok(&daemon.ctl(&["unload", "mine"]));
    assert_eq!(state(&daemon, "mine"), "unloaded");
    assert_eq!(state(&daemon, DEMO), "ready");
    assert_eq!(engines(&daemon).len(), 1);
}

/// Sets the memory of the board. The processes of the engines have none in its files, so that
/// the estimates are what counts.
fn set_available(daemon: &Daemon, bytes: u64) {
    let proc = daemon.dir.path().join("board/proc");
    fs::create_dir_all(&proc).unwrap();
    let text = format!(
        "MemTotal: {} kB\nMemAvailable: {} kB\n",
        1 << 20,
        bytes >> 10
    );
    fs::write(proc.join("new"), text).unwrap();
    fs::rename(proc.join("new"), proc.join("meminfo")).unwrap();
}

/// What a load of this model takes, by the estimate.
fn estimate(daemon: &Daemon, name: &str) -> u64 {
    ok(&daemon.ctl(&["load", name]));
    let bytes = model(daemon, name)["memory_bytes"].as_u64().unwrap();
    ok(&daemon.ctl(&["unload", name]));
    bytes
}

fn question(model: &str) -> Value {
    json!({
        "model": model, "temperature": 0, "max_tokens": 12, "reproducible": true,
        "messages": [{"role": "user", "content": "What is the capital of Italy?"}],
    })
}

#[test]
fn alternating_requests_for_three_models_with_room_for_two_are_all_answered() {
    const CLIENTS: usize = 3;
    const ROUNDS: usize = 4;
    /// The part of the memory that no model may take, in docs/governor.md.
    const RESERVE: u64 = 256 << 20;
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        // Nothing that could be reduced instead: a model fits, or does not.
        config: "[model]\ncontext = 2048\n[cache]\nmemory_mib = 0\n[engine]\nthreads = 1\n",
        ..Setup::default()
    });
    install_demo(&daemon, "mine");
    install_demo(&daemon, "third");
    let models = [DEMO, "mine", "third"];
    set_available(&daemon, 1 << 30);
    let needed = models.map(|name| estimate(&daemon, name));
    let least = needed.into_iter().min().unwrap();
    set_available(&daemon, RESERVE + needed.iter().sum::<u64>() - least / 2);
    let alone = models.map(|name| client::reply(client::post(&daemon, &question(name))).1);
    let before = loads(&daemon);

    // Each client goes round in its own direction, and waits for each answer.
    let ask_in_turn = |client: usize| {
        for n in 0..ROUNDS * models.len() {
            let at = (n * (1 + client % 2) + client) % models.len();
            let (head, answer) = client::reply(client::post(&daemon, &question(models[at])));
            assert!(head.starts_with("http/1.1 200"), "{answer}");
            assert_eq!(client::content(&answer), client::content(&alone[at]));
        }
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || ask_in_turn(client));
        }
    });
    let (requests, loads) = (CLIENTS * ROUNDS * models.len(), loads(&daemon) - before);
    // A load serves those that wait for it (11 where it was written); without any, nothing would
    // have been displaced.
    assert!(
        (1..=requests * 2 / 3).contains(&loads),
        "{loads} loads for {requests} requests"
    );
    assert!(engines(&daemon).len() <= 2);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

fn embeddings(texts: &[String]) -> String {
    json!({"model": "vectors", "input": texts}).to_string()
}

/// The vectors of a complete answer.
fn vectors(answer: &Value) -> Vec<Value> {
    let data = answer["data"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    data.iter()
        .map(|entry| entry["embedding"].clone())
        .collect()
}

/// Has the daemon start engines that wait until the file `gate` exists.
fn close_gate(daemon: &mut Daemon) {
    let folder = daemon.dir.path();
    let (script, gate) = (folder.join("gated-engine"), folder.join("gate"));
    let engine = beside(env!("CARGO_BIN_EXE_hearthd"), "hearth-engine");
    let (engine, gate) = (engine.display(), gate.display());
    let body =
        format!("#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.02; done\nexec {engine} \"$@\"\n");
    write_executable(&script, &body);
    let more = folder.join("hearthd.toml.d");
    fs::create_dir(&more).unwrap();
    let config = format!("[paths]\nengine = {script:?}\n");
    fs::write(more.join("engine.toml"), config).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
    daemon.restart();
}

fn write_executable(path: &Path, body: &str) {
    fs::write(path, body).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn five_hundred_texts_for_an_embedder_that_is_being_loaded_are_all_embedded() {
    const REQUESTS: usize = 10;
    let mut daemon = real();
    install_embedder(&daemon);
    close_gate(&mut daemon);
    let texts: Vec<String> = (0..500).map(|n| format!("text number {n}")).collect();
    let batches = || texts.chunks(texts.len() / REQUESTS);
    let send = |batch: &[String]| client::send_to(&daemon, "/v1/embeddings", &embeddings(batch));
    let sent: Vec<_> = batches().map(send).collect();
    until("it is being loaded", || {
        state(&daemon, "vectors") == "loading"
    });
    fs::write(daemon.dir.path().join("gate"), "").unwrap();
    let mut embedded = Vec::new();
    for socket in sent {
        let (head, answer) = client::reply(socket);
        assert!(head.starts_with("http/1.1 200"), "{answer}");
        embedded.extend(vectors(&answer));
    }
    assert_eq!(embedded.len(), texts.len());
    assert_eq!((loads(&daemon), engines(&daemon).len()), (1, 1));
    let again = client::reply(send(&texts[..50])).1;
    assert_eq!(vectors(&again), embedded[..50]);
    assert_ne!(embedded[0], embedded[1]);
}

#[test]
fn a_killed_embedder_leaves_a_running_answer_and_is_loaded_again() {
    let daemon = real();
    install_embedder(&daemon);
    let mut long = question(DEMO);
    long["max_tokens"] = 300.into();
    long["ignore_eos"] = true.into();
    let expected = daemon.stream_chat(long.clone());
    let texts = ["a text".to_owned(), "another one".to_owned()];
    let embed = || {
        client::reply(client::send_to(
            &daemon,
            "/v1/embeddings",
            &embeddings(&texts),
        ))
        .1
    };
    let before = vectors(&embed());
    let [_, embedder] = engines(&daemon)[..] else {
        panic!("{:?}", engines(&daemon))
    };
    let running = Streamed::open(&daemon, long);
    kill(Pid::from_raw(embedder), Signal::SIGKILL).unwrap();
    // Where the request comes before the end is noticed, it fails with the engine.
    let mut after = Value::Null;
    until("it embeds again", || {
        after = embed();
        assert!(
            after["data"].is_array() || after["error"]["code"] == "engine_crashed",
            "{after}"
        );
        after["data"].is_array()
    });
    assert_eq!(vectors(&after), before);
    assert_eq!(running.end(), (expected, Value::Null));
    assert_eq!(daemon.health()["service"]["engine_crashes"], 1);
    // The chat model once, the embedder twice.
    assert_eq!(loads(&daemon), 3);
}
