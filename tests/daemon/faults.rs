//! Faults, with the real executables.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Streamed, chat, content, counted};
use crate::harness::{Daemon, Engine, Setup, error, mount_wrapper, ok, root, text, until};
use crate::not_checked::not_checked;

fn demo_model() -> Vec<u8> {
    fs::read(root().join("packaging/demo-model/hearth-demo-q8_0.gguf")).unwrap()
}

#[test]
fn damaged_models_are_refused_without_side_effects() {
    let daemon = Daemon::real();
    let whole = demo_model();
    let files: [(&str, &[u8], &str); 4] = [
        ("empty", b"", "empty"),
        ("text", b"This is not a model.\n", "GGUF"),
        ("cut", &whole[..whole.len() / 2], "is not a usable model"),
        ("stub", &whole[..64], "is not a usable model"),
    ];
    for (name, bytes, why) in files {
        let source = daemon.dir.path().join(format!("{name}.gguf"));
        fs::write(&source, bytes).unwrap();
        let import = daemon.ctl(&["import", &source.display().to_string(), "--name", name]);
        // hearthctl itself rejects a file that is not GGUF.
        let said = error(&import);
        assert!(
            said.contains(why) || said.contains("not a GGUF file"),
            "{name}: {said}"
        );
        // The same file, copied into the folder by hand.
        let placed = daemon.models().join(format!("{name}.gguf"));
        fs::copy(&source, &placed).unwrap();
        let said = error(&daemon.call("LoadModel", &["sa{sv}", name, "0"]));
        assert!(said.contains(why), "{name}: {said}");
        fs::remove_file(&placed).unwrap();
    }
    assert_eq!(
        fs::read_dir(daemon.models()).unwrap().count(),
        0,
        "nothing is left of a refused import"
    );
    let answer = ok(&daemon.call("Generate", &["s", "What is the capital of Italy?"]));
    assert!(answer.contains("Rome"), "{answer}");
}

#[test]
fn a_good_import_works_and_can_be_removed() {
    let daemon = Daemon::real();
    let source = root().join("packaging/demo-model/hearth-demo-f16.gguf");
    ok(&daemon.ctl(&["import", &source.display().to_string(), "--name", "mine"]));
    let again = error(&daemon.ctl(&["import", &source.display().to_string(), "--name", "mine"]));
    assert!(again.contains("already"), "{again}");
    ok(&daemon.ctl(&["load", "mine"]));
    let busy = error(&daemon.ctl(&["remove", "mine"]));
    assert!(busy.contains("unload"), "{busy}");
    ok(&daemon.ctl(&["unload"]));
    ok(&daemon.ctl(&["remove", "mine"]));
    assert_eq!(fs::read_dir(daemon.models()).unwrap().count(), 0);
}

#[test]
fn an_import_to_a_full_disk_leaves_no_partial_file() {
    let dir = tempfile::tempdir().unwrap();
    let Some(wrapper) = mount_wrapper("models", "size=512k") else {
        not_checked("a full disk: this machine allows no mount namespaces");
        return;
    };
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        wrapper,
        ..Setup::default()
    });
    let source = dir.path().join("big.gguf");
    fs::write(&source, demo_model()).unwrap();
    let said = error(&daemon.ctl(&["import", &source.display().to_string(), "--name", "big"]));
    assert!(
        said.contains("No space left") && said.contains("was not imported"),
        "{said}"
    );
    // The daemon's view of its folder, inside its mount namespace.
    let inside = format!(
        "/proc/{}/root{}",
        daemon.child.id(),
        daemon.models().display()
    );
    assert_eq!(fs::read_dir(inside).unwrap().count(), 0);
    assert!(ok(&daemon.call("Generate", &["s", "What is the capital of Italy?"])).contains("Rome"));
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_sizes() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ncontext = 256\n",
        ..Setup::default()
    });
    let said = error(&daemon.call("Generate", &["s", &"word ".repeat(200)]));
    assert!(said.contains("the context holds 256"), "{said}");
    let tokens: Vec<&str> = said
        .split_whitespace()
        .filter(|w| w.parse::<u32>().is_ok_and(|n| n > 256))
        .collect();
    assert!(!tokens.is_empty(), "{said}");
    let body = serde_json::json!({"messages": [{"role": "user", "content": "word ".repeat(200)}]})
        .to_string();
    assert_eq!(
        daemon.chat(&body)["error"]["code"],
        "context_length_exceeded"
    );
}

/// Four clients, one of them streaming, while the engine is killed repeatedly: each
/// request ends once, with the same text as without kills.
fn survive_kills(daemon: &Daemon, kills: u64, questions: &[(String, String)]) {
    let over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (over, asked) = (&over, &asked);
            scope.spawn(move || {
                for (question, expected) in questions.iter().cycle().skip(client) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = serde_json::json!({
                        "messages": [{"role": "user", "content": question}],
                        "temperature": 0,
                    });
                    let answer = if client == 0 {
                        daemon.stream_chat(body)
                    } else {
                        let answer = daemon.chat(&body.to_string());
                        let content = &answer["choices"][0]["message"]["content"];
                        assert!(content.is_string(), "{answer}");
                        content.as_str().unwrap().to_owned()
                    };
                    assert_eq!(&answer, expected);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut random = 1u64;
        let (mut last, mut answered) = (None, 0);
        for _ in 0..kills {
            // Otherwise a busy machine would kill them repeatedly before the first token,
            // and they would be given up.
            until("an engine has answered and is at work", || {
                asked.load(Ordering::Relaxed) > answered
                    && daemon.engine_pid().is_some_and(|pid| Some(pid) != last)
                    && daemon.health()["service"]["state"] == "busy"
            });
            answered = asked.load(Ordering::Relaxed);
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            std::thread::sleep(Duration::from_millis(random >> 58));
            last = daemon.engine_pid();
            if let Some(pid) = last {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) >= 4);
    assert_eq!(daemon.health()["service"]["engine_crashes"], kills);
    assert_eq!(daemon.health()["service"]["active_jobs"], 0);
    assert_eq!(daemon.health()["service"]["queue_length"], 0);
}

#[test]
fn answers_survive_two_hundred_engine_kills() {
    let daemon = Daemon::fake("token-ms=2");
    let questions: Vec<(String, String)> = (0..7)
        .map(|n| format!("number {n} ").repeat(5 + n))
        .map(|text| (text.clone(), text))
        .collect();
    survive_kills(&daemon, 200, &questions);
}

#[test]
fn answers_of_a_real_model_survive_engine_kills() {
    let daemon = Daemon::real();
    let questions: Vec<(String, String)> = [
        "What is the capital of Italy?",
        "What is the capital of France?",
        "What is the capital of Spain?",
    ]
    .into_iter()
    .map(|question| {
        let answer = ok(&daemon.call("Generate", &["s", question]));
        assert!(answer.len() > 5, "{answer}");
        let body = serde_json::json!({
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
        });
        let answer = daemon.chat(&body.to_string());
        let content = answer["choices"][0]["message"]["content"].as_str();
        (question.to_owned(), content.unwrap().to_owned())
    })
    .collect();
    survive_kills(&daemon, 20, &questions);
}

#[test]
fn a_request_that_crashes_the_engine_twice_is_refused() {
    let daemon = Daemon::fake("token-ms=5");
    let bad = r#"{"messages":[{"role":"user","content":"some text and then !abort"}]}"#;
    let good = "a long and harmless text, said in the same minute".to_owned();
    std::thread::scope(|scope| {
        let harmless = scope.spawn(|| {
            let body = serde_json::json!({"messages": [{"role": "user", "content": good}]});
            daemon.chat(&body.to_string())
        });
        let answer = daemon.chat(bad);
        assert_eq!(answer["error"]["code"], "engine_crashed", "{answer}");
        let answer = harmless.join().unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], good, "{answer}");
    });
    let crashes = daemon.health()["service"]["engine_crashes"].clone();
    assert_eq!(crashes, 2);
    // It is rejected without another attempt.
    let answer = daemon.chat(bad);
    assert_eq!(answer["error"]["code"], "engine_crashed", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("refused for"), "{message}");
    assert_eq!(daemon.health()["service"]["engine_crashes"], crashes);
}

#[test]
fn an_engine_that_aborts_while_loading_fails_the_request() {
    let daemon = Daemon::fake("load=abort");
    let said = error(&daemon.call("Generate", &["s", "x"]));
    assert!(said.contains("crashes while loading"), "{said}");
    assert_eq!(daemon.health()["service"]["state"], "failed");
}

#[test]
fn the_engine_ends_with_a_killed_daemon_which_can_be_restarted() {
    let mut daemon = Daemon::fake("token-ms=10");
    let _running = daemon.open_chat(&"long ".repeat(500));
    let engine = daemon.engine_pid().unwrap();
    daemon.signal(Signal::SIGKILL);
    daemon.child.wait().unwrap();
    // A zombie of another parent still has its PID, but no executable.
    until("the engine is gone", || {
        fs::read_link(format!("/proc/{engine}/exe")).is_err()
    });
    daemon.restart();
    let answer = daemon.chat(r#"{"messages":[{"role":"user","content":"back"}]}"#);
    assert_eq!(answer["choices"][0]["message"]["content"], "back");
}

#[test]
fn a_stopped_daemon_finishes_running_requests() {
    let mut daemon = Daemon::fake("token-ms=10");
    let mut running = daemon.open_chat(&"word ".repeat(30));
    daemon.signal(Signal::SIGTERM);
    until("it drains", || daemon.log().contains("stopping"));
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut running, &mut rest).ok();
    assert!(
        text(&rest).contains("[DONE]") && text(&rest).contains("\"stop\""),
        "{}",
        text(&rest)
    );
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.socket().exists(), "the socket is cleaned up");
}

#[test]
fn a_hung_engine_is_replaced_and_a_long_answer_is_not_interrupted() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=20"),
        config: "[engine]\nhang_timeout_s = 5\n",
        ..Setup::default()
    });
    // Longer than the limit, but always making progress.
    let long = "word ".repeat(80);
    let body = serde_json::json!({"messages": [{"role": "user", "content": long}]}).to_string();
    let answer = daemon.chat(&body);
    assert_eq!(answer["choices"][0]["message"]["content"], long, "{answer}");
    let answer = daemon.chat(r#"{"messages":[{"role":"user","content":"ab!hang"}]}"#);
    assert_eq!(answer["error"]["code"], "engine_crashed", "{answer}");
    assert!(daemon.log().contains("makes no progress for 5 s"));
    let answer = daemon.chat(r#"{"messages":[{"role":"user","content":"after"}]}"#);
    assert_eq!(answer["choices"][0]["message"]["content"], "after");
}

#[test]
fn a_suspended_engine_is_replaced_and_its_answer_continues() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=5"),
        config: "[engine]\nhang_timeout_s = 5\n",
        ..Setup::default()
    });
    let long = counted(30);
    let running = Streamed::open(&daemon, chat(&long));
    let stopped = daemon.engine_pid().unwrap();
    kill(Pid::from_raw(stopped), Signal::SIGSTOP).unwrap();
    let (answer, error) = running.end();
    assert!(error.is_null(), "{error}");
    assert_eq!(answer, long);
    assert!(daemon.log().contains("makes no progress for 5 s"));
    assert_eq!(daemon.health()["service"]["engine_crashes"], 1);
    assert_ne!(daemon.engine_pid(), Some(stopped));
    assert!(
        fs::read_link(format!("/proc/{stopped}/exe")).is_err(),
        "the stopped engine is gone"
    );
}

#[test]
fn an_answer_does_not_continue_with_another_model_file() {
    let daemon = Daemon::real();
    let models = root().join("packaging/demo-model");
    let file = daemon.models().join("mine.gguf");
    fs::copy(models.join("hearth-demo-q8_0.gguf"), &file).unwrap();
    let mut long = chat("Tell me something.");
    long["model"] = "mine".into();
    long["regex"] = "[a-z ]{900}".into();
    let running = Streamed::open(&daemon, long);
    let next = daemon.dir.path().join("next.gguf");
    fs::copy(models.join("hearth-demo-f16.gguf"), &next).unwrap();
    fs::rename(&next, &file).unwrap();
    let inode = fs::metadata(&file).unwrap().ino().to_string();
    let has_mapped = |pid: i32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.lines()
            .any(|line| line.split_whitespace().nth(4) == Some(&inode))
    };
    let before = daemon.engine_pid().unwrap();
    assert!(!has_mapped(before), "the old file serves on");
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    let (_, error) = running.end();
    assert_eq!(error["code"], "engine_crashed", "{error}");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("the model file was replaced"), "{said}");

    let mut question = chat("What is the capital of Italy?");
    question["model"] = "mine".into();
    let answer = daemon.chat(&question.to_string());
    assert!(content(&answer).contains("Rome"), "{answer}");
    assert!(has_mapped(daemon.engine_pid().unwrap()));
}
