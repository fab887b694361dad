//! What the journal says of a request.

use std::fs;

use crate::client::{Bus, Options, chat, content, post, reply};
use crate::harness::Daemon;

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
