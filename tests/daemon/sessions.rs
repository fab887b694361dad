//! Conversations stored by the daemon.

use std::process::Command;

use zbus::OwnedObjectPath;

use crate::client::{Bus, Options, SESSION};
use crate::harness::launch::group;
use crate::harness::{BUS_NAME, Daemon, error, ok, until};
use crate::not_checked::not_checked;

fn turns(bus: &Bus, session: &str) -> u32 {
    bus.number(session, SESSION, "Turns")
}

fn clone(bus: &Bus, session: &str) -> Result<String, String> {
    let path: Result<OwnedObjectPath, _> = bus.call(session, SESSION, "Clone", &());
    path.map(|path| path.as_str().to_owned())
}

#[test]
fn a_turn_computes_only_its_new_tokens() {
    let daemon = Daemon::real();
    let bus = Bus::connect(&daemon);
    let system = "You are the voice of a house and answer briefly. ".repeat(3);
    let options = Options::from([
        ("system", system.into()),
        ("temperature", 0.0.into()),
        ("model", "hearth-demo-q8_0".into()),
    ]);
    let session = bus.open_session(&options).unwrap();
    assert_eq!(session, "/org/hearthd/Inference1/sessions/1");
    let say = |session: &str, text: &str| bus.say(session, text, &Options::new()).unwrap();
    let number = |name: &str| bus.number(&session, SESSION, name);
    assert!(say(&session, "What is the capital of Italy?").contains("Rome"));
    let first = number("PromptTokens");
    assert!(say(&session, "What is the capital of France?").contains("Paris"));
    let (second, cached) = (number("PromptTokens"), number("CachedTokens"));
    // All of the first prompt, and of its answer.
    assert!(
        second > first && cached > first,
        "{first}, {second}, {cached}"
    );
    assert_eq!(turns(&bus, &session), 2);

    let other = clone(&bus, &session).unwrap();
    assert!(say(&other, "What is the capital of Japan?").contains("Tokyo"));
    assert!(bus.number(&other, SESSION, "CachedTokens") > second);
    assert_eq!((turns(&bus, &session), turns(&bus, &other)), (2, 3));
    let json = Options::from([("json_schema", r#"{"enum": ["yes", "no"]}"#.into())]);
    let answer = bus.say(&other, "Is Rome in Italy?", &json).unwrap();
    assert!(["\"yes\"", "\"no\""].contains(&answer.as_str()), "{answer}");
}

#[test]
fn sessions_of_a_disconnected_caller_are_closed() {
    let daemon = Daemon::fake("token-ms=5");
    let (bus, stays) = (Bus::connect(&daemon), Bus::connect(&daemon));
    let session = bus.open_session(&Options::new()).unwrap();
    // Another connection of the same user may use it, but does not own it.
    assert_eq!(
        stays.say(&session, "hello", &Options::new()).unwrap(),
        "hello"
    );
    let own = clone(&stays, &session).unwrap();
    drop(bus);
    until("the session is gone", || {
        let said = stays.say(&session, "x", &Options::new());
        said.is_err_and(|said| said.contains("UnknownObject") || said.contains("no session"))
    });
    assert_eq!(
        stays.say(&own, "still here", &Options::new()).unwrap(),
        "still here"
    );
    // busctl disconnects after the reply to its call.
    let path = ok(&daemon.call("OpenSession", &["a{sv}", "0"]));
    let path = path
        .trim()
        .trim_start_matches("o ")
        .trim_matches('"')
        .to_owned();
    until("that one is gone, too", || {
        stays.say(&path, "x", &Options::new()).is_err()
    });
}

#[test]
fn other_users_have_no_access_to_a_session() {
    if !nix::unistd::geteuid().is_root() {
        not_checked("a second user needs root");
        return;
    }
    let daemon = Daemon::fake("");
    let bus = Bus::connect(&daemon);
    let session = bus.open_session(&Options::new()).unwrap();
    bus.say(&session, "mine alone", &Options::new()).unwrap();
    for (method, args) in [
        ("Append", &["s", "x"][..]),
        ("Generate", &["sa{sv}", "x", "0"]),
        ("Clone", &[]),
        ("Close", &[]),
    ] {
        let said = error(
            &Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", &group().to_string()])
                .args(["--clear-groups", "busctl"])
                .arg(format!("--address={}", daemon.bus_address()))
                .args(["call", BUS_NAME, &session, SESSION, method])
                .args(args)
                .output()
                .unwrap(),
        );
        assert!(said.contains("Access denied"), "{method}: {said}");
    }
    assert_eq!(turns(&bus, &session), 1);
}
