//! Jobs as bus objects: they appear and disappear, and reveal nothing to other users.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, OwnedVariant};

use crate::client::{Bus, Options, chat, is};
use crate::harness::{Daemon, Setup};

const JOB: &str = "org.hearthd.Inference1.Job";
const MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
const PATH: &str = "/org/hearthd/Inference1";

type Interfaces = HashMap<String, HashMap<String, OwnedVariant>>;

fn daemon() -> Daemon {
    Daemon::start(Setup {
        config: "[queue]\njob_keep_s = 1\n",
        ..Setup::default()
    })
}

#[test]
fn jobs_come_and_go_as_managed_objects() {
    let daemon = daemon();
    let (bus, other) = (Bus::connect(&daemon), Bus::connect(&daemon));
    let mut signals = other.listen();
    let job = bus.submit(&chat("the secret"), &Options::new()).unwrap();
    let added = signals.until("InterfacesAdded").pop().unwrap();
    let (path, interfaces): (OwnedObjectPath, Interfaces) = added.body().deserialize().unwrap();
    assert_eq!(path.as_str(), job);
    let uid = interfaces[JOB]["Uid"].downcast_ref::<u32>().unwrap();
    assert_eq!(uid, nix::unistd::geteuid().as_raw());

    let objects: HashMap<OwnedObjectPath, Interfaces> =
        other.call(PATH, MANAGER, "GetManagedObjects", &()).unwrap();
    let seen = format!("{objects:?}{}{interfaces:?}", other.properties(&job, JOB));
    assert!(seen.contains(&job) && !seen.contains("secret"), "{seen}");
    assert!(bus.result(&job).unwrap().to_string().contains("secret"));

    let removed = signals.until("InterfacesRemoved").pop().unwrap();
    let (path, gone): (OwnedObjectPath, Vec<String>) = removed.body().deserialize().unwrap();
    assert_eq!(path.as_str(), job);
    assert!(gone.iter().any(|name| name == JOB), "{gone:?}");
    let objects: HashMap<OwnedObjectPath, Interfaces> =
        other.call(PATH, MANAGER, "GetManagedObjects", &()).unwrap();
    assert!(!format!("{objects:?}").contains("/jobs/"), "{objects:?}");
    assert!(bus.result(&job).is_err());
}

#[test]
fn the_end_is_told_to_the_submitter_alone() {
    let daemon = daemon();
    let (bus, other) = (Bus::connect(&daemon), Bus::connect(&daemon));
    let (mut own, mut others) = (bus.listen(), other.listen());
    let job = bus.submit(&chat("the secret"), &Options::new()).unwrap();
    let finished = own.until("Finished").pop().unwrap();
    let (state, result): (String, String) = finished.body().deserialize().unwrap();
    assert_eq!(state, "done");
    assert!(result.contains("the secret"), "{result}");
    assert_eq!(finished.header().path().unwrap().as_str(), job);
    // The job is removed long after its end was signalled.
    let seen = others.until("InterfacesRemoved");
    assert!(seen.iter().any(|signal| is(signal, "PropertiesChanged")));
    for signal in seen {
        assert!(!is(&signal, "Finished"), "{signal:?}");
        let bytes = String::from_utf8_lossy(signal.data()).into_owned();
        assert!(!bytes.contains("secret"), "{signal:?}: {bytes}");
    }
}
