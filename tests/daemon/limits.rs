//! What the journal says of a request, and its bounds.

use std::fs;

use serde_json::{Value, json};

use crate::client::{Bus, Options, chat, content, post, reply};
use crate::harness::{Daemon, Setup};

const JOB: &str = "org.hearthd.Inference1.Job";

#[test]
fn the_unit_of_the_caller_is_shown_and_logged() {
    let daemon = Daemon::fake("");
    let process = daemon
        .dir
        .path()
        .join(format!("board/proc/{}", std::process::id()));
    fs::create_dir_all(&process).unwrap();
    fs::write(process.join("cgroup"), "0::/system.slice/voice.service\n").unwrap();
    let (bus, uid) = (Bus::connect(&daemon), nix::unistd::geteuid());
    let job = bus.submit(&chat("hello"), &Options::new()).unwrap();
    bus.result(&job).unwrap();
    assert!(bus.properties(&job, JOB).contains("voice.service"));
    assert_eq!(
        content(&reply(post(&daemon, &chat("hello again"))).1),
        "hello again"
    );
    let log = daemon.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("answered job="))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        let fields = format!("uid={uid} caller_unit=voice.service");
        assert!(
            line.contains(&fields) && line.contains(" charged="),
            "{line}"
        );
        assert!(!line.contains("hello"), "{line}");
    }
    let metrics = String::from_utf8(daemon.curl("/metrics", &[]).stdout).unwrap();
    let requests = format!("hearthd_user_requests_total{{uid=\"{uid}\"}} 2");
    assert!(metrics.contains(&requests), "{metrics}");
    assert!(!metrics.contains("voice.service"), "{metrics}");
}

#[test]
fn a_prompt_that_is_too_long_is_measured() {
    let daemon = Daemon::start(Setup {
        config: "[model]\ncontext = 256\n",
        ..Setup::default()
    });
    let long = "word ".repeat(100);
    for (path, request, kind) in [
        ("/v1/chat/completions", chat(&long), "invalid_request_error"),
        (
            "/completion",
            json!({"prompt": long}),
            "exceed_context_size_error",
        ),
        (
            "/completion",
            json!({"prompt": long, "stream": true}),
            "exceed_context_size_error",
        ),
    ] {
        let output = daemon.curl(path, &["-d", &request.to_string()]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &answer["error"];
        assert_eq!(error["type"], kind, "{answer}");
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(error["n_ctx"], 256);
        assert!(
            error["n_prompt_tokens"].as_u64().unwrap() >= 500,
            "{answer}"
        );
    }
}

#[test]
fn t_max_predict_ms_ends_an_answer_after_its_first_line() {
    let daemon = Daemon::fake("token-ms=5");
    let text = format!("a line\n{}", "word ".repeat(200));
    let request = json!({"prompt": text, "n_predict": -1, "t_max_predict_ms": 1});
    let output = daemon.curl("/completion", &["-d", &request.to_string()]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["content"], "a line\n", "{answer}");
    assert_eq!(answer["stop_type"], "limit");
    assert_eq!(answer["truncated"], false);
}
