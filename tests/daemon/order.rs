//! The order of requests in the engine.

use std::collections::HashMap;

use zbus::Variant;

use crate::client::{Bus, chat, content, counted};
use crate::harness::{Daemon, Engine, Setup, until};

fn one_slot(script: &'static str) -> Daemon {
    Daemon::start(Setup {
        engine: Engine::Fake(script),
        config: "[engine]\nslots = 1\n",
        ..Setup::default()
    })
}

#[test]
fn higher_classes_overtake_a_background_job() {
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
