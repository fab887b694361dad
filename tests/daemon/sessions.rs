//! Conversations stored by the daemon.

use std::process::Command;

use zbus::OwnedObjectPath;

use crate::client::{Bus, Options, SESSION, counted};
use crate::harness::{BUS_NAME, Daemon, error, group, ok, until};
use crate::not_checked::not_checked;

fn turns(bus: &Bus, session: &str) -> u32 {
    bus.number(session, SESSION, "Turns")
}

fn clone(bus: &Bus, session: &str) -> Result<String, String> {
    let path: Result<OwnedObjectPath, _> = bus.call(session, SESSION, "Clone", &());
    path.map(|path| path.as_str().to_owned())
}

fn close(bus: &Bus, session: &str) -> Result<(), String> {
    bus.call(session, SESSION, "Close", &())
}

#[test]
fn going_on_computes_only_what_is_new() {
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
fn what_is_appended_is_part_of_the_next_turn() {
    let daemon = Daemon::fake("");
    let bus = Bus::connect(&daemon);
    let session = bus.open_session(&Options::new()).unwrap();
    let append = |text: &str| bus.call::<()>(&session, SESSION, "Append", &(text,));
    let say = |text: &str| bus.say(&session, text, &Options::new());
    assert!(say(" ").unwrap_err().contains("nothing to answer"));
    append("The door is open.").unwrap();
    append("It is cold.").unwrap();
    // The fake engine echoes the last message.
    assert_eq!(
        say("Why?").unwrap(),
        "The door is open.\n\nIt is cold.\n\nWhy?"
    );
    append("Close it.").unwrap();
    assert_eq!(say("").unwrap(), "Close it.");
    let said = append(&"x".repeat(1024 * 1024)).unwrap_err();
    assert!(
        said.contains("ContextTooLong") && said.contains("prompt_max_bytes"),
        "{said}"
    );
    assert_eq!(say("still here").unwrap(), "still here");
    assert_eq!(turns(&bus, &session), 3);
}

#[test]
fn without_an_answer_it_stays_as_it_was() {
    let daemon = Daemon::fake("token-ms=5");
    let bus = Bus::connect(&daemon);
    let session = bus.open_session(&Options::new()).unwrap();
    assert_eq!(bus.say(&session, "one", &Options::new()).unwrap(), "one");
    let deadline = Options::from([("deadline_ms", 300_u32.into())]);
    let said = bus.say(&session, &counted(200), &deadline).unwrap_err();
    assert!(said.contains("DeadlineExceeded"), "{said}");
    // The second call arrives while the first one runs, from another connection.
    let path = session.clone();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let bus = Bus::connect(&daemon);
            bus.say(&path, &counted(200), &Options::new())
        });
        let health = || daemon.health()["service"]["active_jobs"].as_u64();
        until("the answer is under way", || health() == Some(1));
        for said in [
            bus.say(&session, "two", &Options::new()).unwrap_err(),
            bus.call::<()>(&session, SESSION, "Append", &("two",))
                .unwrap_err(),
        ] {
            assert!(
                said.contains("Error.Busy") && said.contains("is answering"),
                "{said}"
            );
        }
        // A session can be cloned and continued.
        let other = clone(&bus, &session).unwrap();
        assert_eq!(bus.say(&other, "two", &Options::new()).unwrap(), "two");
        assert_eq!((turns(&bus, &session), turns(&bus, &other)), (1, 2));
        let before = bus.number(&other, SESSION, "PromptTokens");
        close(&bus, &session).unwrap();
        let said = running.join().unwrap().unwrap_err();
        assert!(
            said.contains("Cancelled") && said.contains("was closed"),
            "{said}"
        );
        until("it computes no longer", || health() == Some(0));

        // A failed turn leaves nothing behind: the next prompt is as long as it was.
        let twin = clone(&bus, &other).unwrap();
        let failed = bus.say(&twin, &counted(200), &deadline).unwrap_err();
        assert!(failed.contains("DeadlineExceeded"), "{failed}");
        for session in [&other, &twin] {
            assert_eq!(bus.say(session, "three", &Options::new()).unwrap(), "three");
        }
        let tokens = |session: &str| bus.number(session, SESSION, "PromptTokens");
        assert!(tokens(&other) > before);
        assert_eq!(tokens(&other), tokens(&twin));
    });
    let said = bus.say(&session, "x", &Options::new()).unwrap_err();
    assert!(
        said.contains("UnknownObject") || said.contains("no session 1"),
        "{said}"
    );
}

#[test]
fn a_caller_that_leaves_takes_its_sessions_with_it() {
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
fn there_are_only_so_many() {
    let daemon = Daemon::fake("");
    let bus = Bus::connect(&daemon);
    let sessions: Vec<String> = (0..16)
        .map(|_| bus.open_session(&Options::new()).unwrap())
        .collect();
    let refused = [
        bus.open_session(&Options::new()).unwrap_err(),
        clone(&bus, &sessions[0]).unwrap_err(),
    ];
    for said in refused {
        assert!(
            said.contains("QuotaExceeded") && said.contains("close one"),
            "{said}"
        );
    }
    close(&bus, &sessions[3]).unwrap();
    bus.open_session(&Options::new()).unwrap();
}

#[test]
fn others_may_not_listen_in() {
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

#[test]
fn options_are_known_by_name() {
    let daemon = Daemon::fake("");
    let bus = Bus::connect(&daemon);
    for (key, value, part) in [
        ("tempreature", 0.5.into(), "unknown option \"tempreature\""),
        (
            "temperature",
            "hot".into(),
            "`temperature` must be a number",
        ),
        ("stop", 3_u32.into(), "`stop` must be"),
        ("priority", "urgent".into(), "`priority` must be"),
        ("truncation", "yes".into(), "`truncation` must be"),
    ] {
        let said = bus
            .open_session(&Options::from([(key, value)]))
            .unwrap_err();
        assert!(
            said.contains("InvalidArgs") && said.contains(part),
            "{said}"
        );
    }
    let session = bus.open_session(&Options::new()).unwrap();
    let said = bus.say(&session, "x", &Options::from([("system", "y".into())]));
    assert!(said.unwrap_err().contains("unknown option \"system\""));
    // A turn's options apply to this turn only.
    let short = Options::from([("max_tokens", 3_u32.into())]);
    assert_eq!(bus.say(&session, "abcdef", &short).unwrap(), "abc");
    assert_eq!(
        bus.say(&session, "abcdef", &Options::new()).unwrap(),
        "abcdef"
    );
}
