//! What other connections see of a job.

use crate::client::{Bus, Options, chat, is};
use crate::harness::{Daemon, Setup};

fn daemon() -> Daemon {
    Daemon::start(Setup {
        config: "[queue]\njob_keep_s = 1\n",
        ..Setup::default()
    })
}

#[test]
fn only_the_submitter_receives_the_result_of_a_job() {
    let daemon = daemon();
    let (bus, other) = (Bus::connect(&daemon), Bus::connect(&daemon));
    let (mut own, mut others) = (bus.listen(), other.listen());
    let job = bus.submit(&chat("the secret"), &Options::new()).unwrap();
    let finished = own.until("Finished").pop().unwrap();
    let (state, result, _): (String, String, String) = finished.body().deserialize().unwrap();
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
