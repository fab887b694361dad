//! Prompts computed ahead of time.

use std::fs;
use std::process::Command;

use crate::harness::launch::group;
use crate::harness::{Daemon, Engine, Setup, ok, text, until};
use crate::not_checked::not_checked;

const SYSTEM: &str = "You are the voice of this house. Answer in one sentence.";

fn chat(system: &str) -> String {
    serde_json::json!({"max_tokens": 4, "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": "What is the capital of Italy?"}]})
    .to_string()
}

fn cached(answer: &serde_json::Value) -> u64 {
    let usage = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    usage.as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn until_finished(daemon: &Daemon, count: u32) {
    until("it was computed", || {
        let metrics = ok(&daemon.curl("/metrics", &[]));
        let finished = metrics
            .lines()
            .filter(|l| l.contains("outcome=\"finished\"}"));
        let counts = finished.filter_map(|l| l.rsplit_once(' ')?.1.parse::<u32>().ok());
        counts.sum::<u32>() == count
    });
}

#[test]
fn a_prewarmed_system_prompt_is_cached() {
    let daemon = Daemon::real();
    // The common beginning of all conversations is in the cache without further action.
    let other = cached(&daemon.chat(&chat("Speak like a pirate.")));
    ok(&daemon.call("Prewarm", &["sa{sv}", SYSTEM, "0"]));
    until_finished(&daemon, 2);
    let prewarmed = cached(&daemon.chat(&chat(SYSTEM)));
    assert!(prewarmed > other + 5, "{prewarmed} and {other} tokens");

    // With tools, and through hearthctl.
    let files = |name: &str, text: &str| {
        let path = daemon.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tool = serde_json::json!([{"type": "function", "function": {"name": "light", "description":
        "Turn a light in the house on or off.", "parameters": {"type": "object", "properties": {}}}}]);
    let (system, tools) = (
        files("system", &format!("{SYSTEM}\n")),
        files("tools", &tool.to_string()),
    );
    let args = ["--json", "prewarm", &system, "--tools", &tools];
    assert_eq!(ok(&daemon.ctl(&args)), "{\"queued\":true}\n");
    until_finished(&daemon, 4);
    let mut body: serde_json::Value = serde_json::from_str(&chat(SYSTEM)).unwrap();
    body["tools"] = tool;
    let answer = daemon.chat(&body.to_string());
    let question = answer["usage"]["prompt_tokens"].as_u64().unwrap() - cached(&answer);
    // All but the question and its template tokens; the question has some 8 tokens.
    assert!(question < 24, "{answer}");
    // Prewarming generates no answer and sets no speed.
    assert!(!daemon.property("TokensPerSecond").contains("d 0\n"));
}

#[test]
fn configured_prompts_are_computed_for_all_users_after_each_load() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\npreload = true\n[[prewarm]]\nsystem = \"You are the voice of this house. \
            Answer in one sentence.\"\n[[prewarm]]\nmodel = \"another\"\nsystem = \"x\"\n",
        ..Setup::default()
    });
    until_finished(&daemon, 1);
    assert!(cached(&daemon.chat(&chat(SYSTEM))) > 5);
    assert!(daemon.log().contains("number 2 names a missing model"));
    ok(&daemon.call("UnloadModels", &["a{sv}", "0"]));
    // The daemon's own prompts do not load the model again.
    assert_eq!(daemon.health()["service"]["state"], "unloaded");
    ok(&daemon.call("LoadModel", &["sa{sv}", "", "0"]));
    until_finished(&daemon, 3);
    if !nix::unistd::geteuid().is_root() {
        not_checked("a second user needs root");
        return;
    }
    fs::set_permissions(daemon.socket(), {
        use std::os::unix::fs::PermissionsExt as _;
        fs::Permissions::from_mode(0o666)
    })
    .unwrap();
    let (uid, gid) = ("65534", group().to_string());
    let other = Command::new("setpriv")
        .args(["--reuid", uid, "--regid", &gid, "--clear-groups", "curl"])
        .args(["-sS", "--unix-socket"])
        .arg(daemon.socket())
        .args(["-d", &chat(SYSTEM), "http://localhost/v1/chat/completions"])
        .output()
        .unwrap();
    let answer = serde_json::from_str(&ok(&other)).unwrap();
    assert!(cached(&answer) > 5, "{answer}");
}

#[test]
fn invalid_prewarm_entries_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("hearthd.toml");
    for (table, part) in [
        (
            "",
            "hearthd.toml:1: [[prewarm]]: set `system` or `system_file`",
        ),
        (
            "system_file = \"/nonexistent\"",
            "number 1: cannot read /nonexistent",
        ),
    ] {
        fs::write(&config, format!("[[prewarm]]\n{table}\n")).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_hearthd"))
            .args(["--check-config", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert!(!check.status.success());
        assert!(text(&check.stderr).contains(part), "{check:?}");
    }
}
