//! The order of requests, and their deadlines.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};

use serde_json::Value;
use zbus::Variant;

use crate::client::{Bus, Streamed, chat, content, counted};
use crate::harness::{Daemon, Engine, Setup, until};

fn one_slot(script: &'static str) -> Daemon {
    Daemon::start(Setup {
        engine: Engine::Fake(script),
        config: "[engine]\nslots = 1\n",
        ..Setup::default()
    })
}

#[test]
fn who_waits_for_an_answer_overtakes_the_background() {
    let daemon = one_slot("token-ms=4");
    let bus = Bus::connect(&daemon);
    let long = counted(100);
    let options = HashMap::from([("priority", Variant::from("background"))]);
    let job = bus.submit(&chat(&long), &options).unwrap();
    until("the job has begun", || bus.tokens_generated(&job) > 0);
    for class in ["interactive", "normal", "interactive"] {
        let mut request = chat(class);
        request["priority"] = class.into();
        assert_eq!(content(&daemon.chat(&request.to_string())), class);
    }
    assert_eq!(content(&bus.result(&job).unwrap()), long);
    let log = daemon.log();
    let answered: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("answered"))
        .filter_map(|line| line.split("job=").nth(1)?.split(' ').next())
        .collect();
    assert_eq!(answered, ["2", "3", "4", "1"], "{log}");
}

#[test]
fn a_deadline_ends_what_waits() {
    let daemon = one_slot("");
    let bus = Bus::connect(&daemon);
    let mut long = chat(&format!("!slow {}", "word ".repeat(40)));
    long["priority"] = "interactive".into();
    let running = Streamed::open(&daemon, long);
    let options = HashMap::from([("deadline_ms", Variant::from(50u64))]);
    let job = bus.submit(&chat("too late"), &options).unwrap();
    let said = bus.result(&job).unwrap_err();
    assert!(said.contains("Error.DeadlineExceeded"), "{said}");
    assert!(said.contains("within 50 ms"), "{said}");
    assert_eq!(bus.tokens_generated(&job), 0);
    // The request that ran before continues.
    let (text, error) = running.end();
    assert!(error.is_null(), "{error}");
    assert_eq!(text, format!("!slow {}", "word ".repeat(40)));
}

#[test]
fn a_deadline_ends_what_runs() {
    let daemon = one_slot("token-ms=20");
    let bus = Bus::connect(&daemon);
    let options = HashMap::from([("deadline_ms", Variant::from(2000u32))]);
    let long = chat(&"word ".repeat(700));
    let events = bus.open_stream(&long, &options).unwrap();
    let events: Vec<Value> = BufReader::new(events)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let is_token = |event: &&Value| event["type"] == "token";
    assert!(events.iter().filter(is_token).count() > 0, "{events:?}");
    let last = events.last().unwrap();
    assert_eq!(last["kind"], "deadline_exceeded", "{last}");
    until("the engine is free", || {
        daemon.health()["service"]["active_jobs"] == 0
    });
    let answer = daemon.chat(&chat("next").to_string());
    assert_eq!(content(&answer), "next");
}
