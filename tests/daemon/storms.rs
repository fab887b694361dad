//! High load: cancellations at any moment, and more requests than the queue holds.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::client::{Bus, Streamed, chat, content, post, reply};
use crate::harness::{Daemon, Engine, Setup, ok, until};

/// Normal variation of the memory, in KiB.
pub const RSS_SLACK: u64 = 8192;

/// Resources of a process: open files, and private resident memory in KiB.
pub fn held(pid: u32) -> (usize, u64) {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let rss = rss.unwrap().trim_end_matches("kB").trim();
    (files, rss.parse().unwrap())
}

/// The number of requests with this outcome.
pub fn ended(daemon: &Daemon, outcome: &str) -> u64 {
    let metrics = ok(&daemon.curl("/metrics", &[]));
    let end = format!(",outcome=\"{outcome}\"}}");
    let counts = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let counts = counts.filter(|(series, _)| series.ends_with(&end));
    counts.map(|(_, n)| n.parse::<u64>().unwrap()).sum()
}

pub fn idle(daemon: &Daemon) {
    until("nothing runs or waits", || {
        let service = daemon.health()["service"].take();
        service["active_jobs"] == 0 && service["queue_length"] == 0
    });
}

/// Sends requests and disconnects, each time in another way and after another delay.
fn go_away(daemon: &Daemon, seed: u64, times: u64, request: &Value) {
    let bus = Bus::connect(daemon);
    let mut streamed = request.clone();
    streamed["stream"] = true.into();
    let mut random = seed;
    for n in 0..times {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pause = || std::thread::sleep(Duration::from_micros(random >> 50));
        match (random >> 40) % 5 {
            0 => {
                let _client = post(daemon, request);
                pause();
            }
            1 => {
                let mut client = post(daemon, &streamed);
                pause();
                // Some begin to read.
                client.set_nonblocking(true).unwrap();
                _ = client.read(&mut [0; 100]);
            }
            2 | 3 => {
                let job = bus.submit(request, &HashMap::new()).unwrap();
                pause();
                bus.cancel(&job).unwrap();
            }
            _ => {
                let _events = bus.open_stream(request, &HashMap::new()).unwrap();
                pause();
            }
        }
        // Some are cancelled all at the same time.
        if n % 50 == 0 {
            let _clients: Vec<_> = (0..4).map(|_| post(daemon, &streamed)).collect();
        }
    }
}

fn survive_cancels(daemon: &Daemon, times: u64, request: &Value, after: (&str, &str)) {
    let storm = |times| {
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                scope.spawn(move || go_away(daemon, thread, times / 4, request));
            }
        });
        idle(daemon);
    };
    // Requests are numbered in the order of acceptance.
    let ask = || -> u64 {
        let answer = daemon.chat(&chat(after.0).to_string());
        assert!(content(&answer).contains(after.1), "{answer}");
        let id = answer["id"].as_str().unwrap().rsplit('-').next();
        u64::from_str_radix(id.unwrap(), 16).unwrap()
    };
    // The first ones fill caches and the allocator's pools.
    storm(times / 5);
    let engine = daemon.health()["service"]["engine_pid"].as_u64().unwrap();
    let pids = [daemon.child.id(), u32::try_from(engine).unwrap()];
    let before = pids.map(held);
    let (first, finished) = (ask(), ended(daemon, "finished"));
    storm(times);
    // Ensures that requests were accepted: a client that disconnects earlier does not
    // count.
    let finished = ended(daemon, "finished") - finished;
    let admitted = ask() - first;
    assert!(
        admitted > times / 2 && finished < admitted / 2,
        "{admitted}, {finished}"
    );
    for (pid, (files, rss)) in pids.into_iter().zip(before) {
        until("as many files are open as before", || held(pid).0 <= files);
        let now = held(pid).1;
        assert!(now <= rss + RSS_SLACK, "{pid}: {rss} KiB, then {now} KiB");
    }
    let service = daemon.health()["service"].take();
    assert_eq!(service["engine_crashes"], 0);
    assert_eq!(service["engine_pid"], engine);
}

#[test]
fn a_thousand_cancellations_leak_nothing() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=1,prefill-us=2"),
        config: "[queue]\njob_keep_s = 1\n",
        ..Setup::default()
    });
    let long = chat(&"some words ".repeat(180));
    survive_cancels(&daemon, 1000, &long, ("after", "after"));
}

#[test]
fn cancellations_leak_nothing_in_a_real_model() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        // The KV cache becomes resident as it is used; a small one is fully resident
        // soon.
        config: "[queue]\njob_keep_s = 1\n[model]\ncontext = 1536\n[cache]\nmemory_mib = 0\n",
        ..Setup::default()
    });
    let mut long = chat("What is the capital of Italy? ".repeat(10).trim());
    long["regex"] = "[a-z ]{700}".into();
    let after = ("What is the capital of Italy?", "Rome");
    survive_cancels(&daemon, 200, &long, after);
}

/// Whether the request was answered, with this text; otherwise it was refused.
fn was_answered(client: UnixStream, expected: &str) -> bool {
    let (head, answer) = reply(client);
    if head.starts_with("http/1.1 429 ") {
        assert!(head.contains("\r\nretry-after: 5"), "{head}");
        assert_eq!(answer["error"]["code"], "queue_full", "{answer}");
        return false;
    }
    assert!(head.starts_with("http/1.1 200 "), "{head}: {answer}");
    assert_eq!(content(&answer), expected);
    true
}

#[test]
fn a_full_queue_refuses_the_surplus_and_answers_the_rest_once() {
    const BY_HTTP: usize = 400;
    const BY_BUS: usize = 100;
    const ROOM: usize = 100;
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake(""),
        config: "connections_max = 1000\n[queue]\nlength_max = 100\n[engine]\nslots = 1\n",
        ..Setup::default()
    });
    let text = |n: usize| format!("this is number {n}");
    let mut first = chat(&format!("!slow {}", "on and on ".repeat(300)));
    // Of the highest class, so that ageing never lifts waiting requests above it.
    first["priority"] = "interactive".into();
    let running = Streamed::open(&daemon, first);

    let bus = Bus::connect(&daemon);
    let refused = AtomicUsize::new(0);
    let (clients, jobs) = std::thread::scope(|scope| {
        let by_http = scope.spawn(|| {
            let clients = (0..BY_HTTP).map(|n| (n, post(&daemon, &chat(&text(n)))));
            clients.collect::<Vec<_>>()
        });
        let mut jobs = Vec::new();
        for n in BY_HTTP..BY_HTTP + BY_BUS {
            match bus.submit(&chat(&text(n)), &HashMap::new()) {
                Ok(job) => jobs.push((n, job)),
                Err(said) => {
                    assert!(said.contains("Error.QueueFull: 100 requests"), "{said}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        (by_http.join().unwrap(), jobs)
    });
    let surplus = (BY_HTTP + BY_BUS - ROOM) as u64;
    until("all were admitted or refused", || {
        let is_full = daemon.health()["service"]["queue_length"] == ROOM;
        is_full && ended(&daemon, "refused_queue_full") >= surplus
    });
    drop(running);

    let mut answered = jobs.len();
    for (n, job) in &jobs {
        for _ in 0..2 {
            assert_eq!(content(&bus.result(job).unwrap()), text(*n));
        }
    }
    let mut refused = refused.into_inner();
    for (n, client) in clients {
        let is_answered = was_answered(client, &text(n));
        answered += usize::from(is_answered);
        refused += usize::from(!is_answered);
    }
    assert_eq!((answered, refused as u64), (ROOM, surplus));
    assert_eq!(ended(&daemon, "finished"), ROOM as u64);
    assert_eq!(ended(&daemon, "refused_queue_full"), surplus);
    assert_eq!(ended(&daemon, "cancelled"), 1);
}
