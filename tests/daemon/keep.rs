//! Prompts cached on disk by the daemon: after unload, restart and crash, and with a
//! faulty disk.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, Engine, Setup, error, mount_wrapper, ok, until};
use crate::not_checked::not_checked;

const CONFIG: &str = "[cache]\nmin_tokens = 16\n";

fn setup() -> Setup {
    Setup {
        engine: Engine::Real,
        config: CONFIG,
        ..Setup::default()
    }
}

/// Asks with a system prompt; returns the answer and the number of cached prompt tokens.
fn ask(daemon: &Daemon, question: &str) -> (String, u64) {
    let body = serde_json::json!({
        "messages": [
            {"role": "system", "content": "You are the voice of a house and answer briefly. ".repeat(3)},
            {"role": "user", "content": question},
        ],
        "temperature": 0,
    });
    let answer = daemon.chat(&body.to_string());
    let text = answer["choices"][0]["message"]["content"].as_str();
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    (
        text.unwrap_or_else(|| panic!("{answer}")).to_owned(),
        cached.as_u64().unwrap(),
    )
}

fn kept(daemon: &Daemon) -> usize {
    let files = fs::read_dir(daemon.dir.path().join("prompts"));
    files.map_or(0, |files| {
        files
            .filter(|f| {
                f.as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "kv")
            })
            .count()
    })
}

#[test]
fn a_cached_prompt_survives_unloads_and_restarts() {
    let mut daemon = Daemon::start(setup());
    let (cold, cached) = ask(&daemon, "What is the capital of Italy?");
    assert_eq!(cached, 0);
    let (_, warm) = ask(&daemon, "What is the capital of France?");
    assert!(warm > 16, "{warm}");
    ok(&daemon.ctl(&["unload"]));
    assert_eq!(kept(&daemon), 1);
    let after_unload = ask(&daemon, "What is the capital of Italy?");
    assert!(after_unload.1 > 16, "{after_unload:?}");
    assert_eq!(after_unload.0, cold);

    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
    daemon.restart();
    let after_restart = ask(&daemon, "What is the capital of Italy?");
    assert_eq!(after_restart, after_unload);
    let metrics = ok(&daemon.curl("/metrics", &[]));
    for line in [
        "hearthd_prompt_cache_requests_total{source=\"disk\"} 1\n".to_owned(),
        format!(
            "hearthd_prompt_cache_tokens_total{{source=\"disk\"}} {}\n",
            after_restart.1
        ),
    ] {
        assert!(metrics.contains(&line), "no {line:?} in\n{metrics}");
    }

    let pid = daemon.engine_pid().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("another engine", || daemon.engine_pid() != Some(pid));
    assert_eq!(ask(&daemon, "What is the capital of Italy?"), after_unload);
}

#[test]
fn hearthctl_manages_the_prompt_cache() {
    let daemon = Daemon::start(setup());
    assert!(ok(&daemon.ctl(&["--json", "cache", "list"])).contains("[]"));
    ask(&daemon, "What is the capital of Italy?");
    ok(&daemon.ctl(&["unload"]));
    let listed = ok(&daemon.ctl(&["cache", "list"]));
    assert!(listed.contains("hearth-demo-q8_0"), "{listed}");
    let verified = ok(&daemon.ctl(&["--json", "cache", "verify"]));
    let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified[0]["problem"], "");
    assert!(verified[0]["tokens"].as_u64().unwrap() > 16);

    let files = fs::read_dir(daemon.dir.path().join("prompts")).unwrap();
    let path = files
        .map(|f| f.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "kv"))
        .unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let said = error(&daemon.ctl(&["cache", "verify"]));
    assert!(said.contains("1 cached prompts are damaged"), "{said}");

    // In memory as well as on disk.
    assert_eq!(ask(&daemon, "What is the capital of Italy?").1, 0);
    assert!(ask(&daemon, "What is the capital of France?").1 > 16);
    ok(&daemon.ctl(&["cache", "clear"]));
    assert_eq!(kept(&daemon), 0);
    assert_eq!(ask(&daemon, "What is the capital of France?").1, 0);
}

#[test]
fn answers_do_not_need_space_for_the_prompt_cache() {
    assert_answers_without_a_prompt_cache("size=16k", "No space left");
}

#[test]
fn answers_do_not_need_a_writable_prompt_cache() {
    assert_answers_without_a_prompt_cache("ro", "Read-only file system");
}

fn assert_answers_without_a_prompt_cache(options: &str, complaint: &str) {
    let Some(wrapper) = mount_wrapper("prompts", options) else {
        not_checked(&format!(
            "{complaint}: this machine allows no mount namespaces"
        ));
        return;
    };
    let daemon = Daemon::start(Setup { wrapper, ..setup() });
    let (cold, _) = ask(&daemon, "What is the capital of Italy?");
    until("it says so", || daemon.log().contains(complaint));
    ok(&daemon.ctl(&["unload"]));
    assert_eq!(ask(&daemon, "What is the capital of Italy?"), (cold, 0));
}
