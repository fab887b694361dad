//! Limits per user, and their log messages.

use std::fs;

use crate::client::{Bus, Options, chat, content, counted, post, reply};
use crate::harness::{Daemon, Engine, Setup, until};

const JOB: &str = "org.hearthd.Inference1.Job";

fn daemon(script: &'static str, config: &'static str) -> Daemon {
    Daemon::start(Setup {
        engine: Engine::Fake(script),
        config,
        ..Setup::default()
    })
}

/// Status and `Retry-After` of a refused chat.
fn refused(daemon: &Daemon) -> (String, u32) {
    let (head, body) = reply(post(daemon, &chat("x")));
    assert_eq!(body["error"]["code"], "quota_exceeded", "{body}");
    let retry = head.lines().find_map(|l| l.strip_prefix("retry-after: "));
    let status = head.lines().next().unwrap().to_owned();
    (status, retry.unwrap().trim().parse().unwrap())
}

#[test]
fn one_user_has_so_many_requests_at_once() {
    let daemon = daemon("token-ms=20", "[limits]\njobs_max = 2\n");
    let bus = Bus::connect(&daemon);
    let long = chat(&counted(100));
    let jobs = [(); 2].map(|()| bus.submit(&long, &Options::new()).unwrap());
    let (name, (message, retry)) = bus.refusal("Generate", &("x",));
    assert_eq!(name, "org.hearthd.Inference1.Error.QuotaExceeded");
    assert!(
        message.contains("`limits.jobs_max`") && retry == 5,
        "{message} {retry}"
    );
    assert_eq!(
        refused(&daemon),
        ("http/1.1 429 too many requests".into(), 5)
    );
    bus.cancel(&jobs[0]).unwrap();
    until("there is a place again", || bus.generate("hello").is_ok());
    bus.cancel(&jobs[1]).unwrap();
}

#[test]
fn one_user_has_so_many_tokens_an_hour() {
    let daemon = daemon("token-ms=5", "[limits]\ntokens_per_hour = 400\n");
    let bus = Bus::connect(&daemon);
    // Computed tokens count, even if the request was then cancelled.
    let job = bus.submit(&chat(&counted(100)), &Options::new()).unwrap();
    until("it is computed", || bus.tokens_generated(&job) > 20);
    bus.cancel(&job).unwrap();
    assert!(bus.result(&job).unwrap_err().contains("Cancelled"));
    let (name, (message, retry)) = bus.refusal("Generate", &("x",));
    assert_eq!(name, "org.hearthd.Inference1.Error.QuotaExceeded");
    assert!(
        message.contains(&format!("try again in {retry} s")),
        "{message}"
    );
    assert!((3000..=3660).contains(&retry), "{retry}");
    let (status, after) = refused(&daemon);
    assert!(
        status.contains("429") && (3000..=3660).contains(&after),
        "{after}"
    );
    let (_, (message, _)) = bus.refusal("Embed", &(vec!["x"],));
    assert!(
        message.contains("`limits.tokens_per_hour` is 400"),
        "{message}"
    );
    // A refusal does not end the session and does not count.
    let session = bus.open_session(&Options::new()).unwrap();
    let said = bus.say(&session, "x", &Options::new()).unwrap_err();
    assert!(said.contains("QuotaExceeded"), "{said}");
    let metrics = daemon.curl("/metrics", &[]);
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    assert!(
        metrics.contains("outcome=\"refused_quota_exceeded\""),
        "{metrics}"
    );
}

#[test]
fn who_is_exempt_has_no_limits() {
    let uid = nix::unistd::geteuid();
    let config = format!("[limits]\njobs_max = 1\ntokens_per_hour = 1\nexempt_uids = [{uid}]\n");
    let daemon = daemon("token-ms=5", config.leak());
    let bus = Bus::connect(&daemon);
    let jobs = [(); 3].map(|()| bus.submit(&chat("hello"), &Options::new()).unwrap());
    for job in jobs {
        assert_eq!(content(&bus.result(&job).unwrap()), "hello");
    }
}

#[test]
fn a_request_says_where_it_came_from() {
    let daemon = daemon("", "");
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
