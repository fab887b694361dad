//! Unusual, damaged and deliberately expensive requests.

use std::io::{Read as _, Write as _};

use serde_json::Value;

use crate::client::{Bus, Streamed, chat, connect, content, counted, raw, rest};
use crate::harness::{Daemon, PATIENCE};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"messages":[{"role":"user","content":"hello"}]}"#;

/// A POST with more header lines, each with its line break, and this body.
fn post(path: &str, version: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/{version}\r\n{lines}\r\n{body}").into_bytes()
}

/// The statuses of all responses in a text.
fn statuses(said: &str) -> Vec<&str> {
    let lines = said.split("HTTP/1.").skip(1);
    lines.filter_map(|rest| rest.get(2..5)).collect()
}

/// A table; longer than a screen: one row for each form of a request.
#[test]
fn valid_and_invalid_forms_of_http_requests_have_the_right_status() {
    let daemon = Daemon::fake("");
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let one = format!("Host: x\r\n{length}");
    let last = format!("{one}Connection: close\r\n");
    let chunked = format!(
        "{:x}\r\n{}\r\n{:x};ext=1\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
        20,
        &BODY[..20],
        BODY.len() - 20,
        &BODY[20..]
    );
    let pipelined = [
        post(CHAT, "1.1", &one, BODY),
        b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        post(CHAT, "1.1", &one, BODY),
        post(CHAT, "1.1", &last, BODY),
    ];
    let absolute = format!("http://localhost{CHAT}");
    for (what, request, expected) in [
        ("whole", post(CHAT, "1.1", &last, BODY), &["200"] as &[_]),
        (
            "pipelined",
            pipelined.concat(),
            &["200", "404", "200", "200"],
        ),
        (
            "chunked",
            post(
                CHAT,
                "1.1",
                "Host: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n",
                &chunked,
            ),
            &["200"],
        ),
        ("HTTP/1.0", post(CHAT, "1.0", &length, BODY), &["200"]),
        ("absolute", post(&absolute, "1.1", &last, BODY), &["200"]),
        (
            "no Host",
            post(CHAT, "1.1", &last.replace("Host: x\r\n", ""), BODY),
            &["200"],
        ),
        ("another version", post(CHAT, "3.0", &last, BODY), &["400"]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[]),
        (
            "two lengths",
            post(CHAT, "1.1", &format!("{last}Content-Length: 3\r\n"), BODY),
            &["400"],
        ),
        (
            "a length below 0",
            post(CHAT, "1.1", "Content-Length: -5\r\n", BODY),
            &["400"],
        ),
        (
            "a method of its own",
            b"HEARTH / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(),
            &["405"],
        ),
        (
            "upgrade",
            b"GET / HTTP/1.1\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
            &["200"],
        ),
        (
            "no HTTP at all",
            b"\0\xff\xfe hello\r\n\r\n".to_vec(),
            &["400"],
        ),
    ] {
        let said = raw(&daemon, &request);
        assert_eq!(statuses(&said), expected, "{what}: {said}");
        let answers = said.matches(r#""content":"hello""#).count();
        let fine = expected.iter().filter(|status| **status == "200").count();
        assert!(answers == fine || what == "upgrade", "{what}: {said}");
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let daemon = Daemon::fake("");
    let mut socket = connect(&daemon);
    let lines = format!(
        "Host: x\r\nContent-Length: {}\r\nConnection: close\r\nExpect: 100-continue\r\n",
        BODY.len()
    );
    let head = post(CHAT, "1.1", &lines, "");
    socket.write_all(&head).unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(BODY.as_bytes()).unwrap();
    assert_eq!(statuses(&rest(&mut socket)), ["200"]);
}

#[test]
fn the_length_of_heads_is_limited() {
    let daemon = Daemon::fake("token-ms=4");
    let text = counted(60);
    let other = Streamed::open(&daemon, chat(&text));
    let many = |n: usize| vec!["X-Y: x\r\n"; n].concat();
    let long = |n: usize| format!("X: {}\r\n", "x".repeat(n));
    for (what, lines, expected) in [
        ("as many as fit", many(90), "200"),
        ("too many", many(101), "431"),
        ("far too many", many(100_000), "431"),
        ("as long as fits", long(30_000), "200"),
        ("too long", long(33_000), "431"),
        ("far too long", long(10 << 20), "431"),
    ] {
        let head = format!("GET /health HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
        let said = raw(&daemon, head.as_bytes());
        assert_eq!(statuses(&said), [expected], "{what}: {said:.200}");
    }
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let said = raw(&daemon, path.as_bytes());
    assert!(
        matches!(statuses(&said)[..], ["431" | "414"]),
        "{said:.200}"
    );
    assert_eq!(other.end().0, text);
}

#[test]
fn the_length_of_bodies_is_limited() {
    let daemon = Daemon::fake("token-ms=4");
    let text = counted(100);
    let other = Streamed::open(&daemon, chat(&text));
    // The announced length is enough to be rejected: no body is sent.
    for length in ["25165825", "999999999999", "9223372036854775807"] {
        for path in [CHAT, "/api/chat"] {
            let said = raw(
                &daemon,
                &post(path, "1.1", &format!("Content-Length: {length}\r\n"), "{"),
            );
            assert_eq!(statuses(&said), ["413"], "{length}: {said}");
            assert!(said.contains("`http.body_max_mib`"), "{said}");
        }
    }
    // Endless: the daemon ends it at its limit.
    let mut socket = connect(&daemon);
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(&post(CHAT, "1.1", "Transfer-Encoding: chunked\r\n", ""))
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let sent = (0..10_000).take_while(|_| socket.write_all(chunk.as_bytes()).is_ok());
    assert!(sent.count() < 1000);
    assert_eq!(statuses(&rest(&mut socket)), ["413"]);
    assert_eq!(other.end().0, text);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

#[test]
fn bodies_expensive_to_parse_do_not_affect_other_requests() {
    let daemon = Daemon::fake("token-ms=4");
    let text = counted(100);
    let other = Streamed::open(&daemon, chat(&text));
    let message =
        |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"hello"}}]{more}}}"#);
    let keys: Vec<String> = (0..200_000).map(|n| format!(",\"k{n}\":{n}")).collect();
    for (what, body, expected) in [
        ("nested lists", "[".repeat(1 << 20), "400"),
        ("nested objects", r#"{"a":"#.repeat(1 << 20), "400"),
        (
            "nested behind a key",
            message(&format!(r#","x":{}"#, "[".repeat(100_000))),
            "400",
        ),
        (
            "a huge number",
            message(r#","max_tokens":1e999999999"#),
            "400",
        ),
        (
            "many digits",
            message(&format!(r#","seed":{}"#, "9".repeat(1 << 20))),
            "400",
        ),
        (
            "a huge number of no use",
            message(r#","x":1e999999999"#),
            "400",
        ),
        ("many keys", message(&keys.concat()), "200"),
        ("a key twice", message(r#","messages":[]"#), "400"),
        (
            "many messages",
            format!(
                r#"{{"messages":[{}]}}"#,
                vec![r#"{"role":"user","content":"x"}"#; 100_000].join(",")
            ),
            "200",
        ),
        ("nothing", String::new(), "400"),
        ("a word", "true".into(), "400"),
        ("two values", format!("{BODY}{BODY}"), "400"),
    ] {
        for path in [CHAT, "/api/chat"] {
            let lines = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
            let said = raw(&daemon, &post(path, "1.1", &lines, &body));
            let fits = statuses(&said) == [expected];
            // Ollama's endpoint treats these differently.
            let is_odd = path == "/api/chat" && ["200", "400"].contains(&statuses(&said)[0]);
            assert!(fits || is_odd, "{what} at {path}: {said:.500}");
            assert!(said.len() < 2000, "{what}: {} bytes", said.len());
        }
    }
    assert_eq!(other.end().0, text);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

/// Contents of a JSON string, and the text that it stands for; `None` if it is invalid.
const TEXTS: &[(&str, &[u8], Option<&str>)] = &[
    ("plain", b"hello", Some("hello")),
    ("escaped NUL", br"a\u0000b", Some("a\0b")),
    ("escaped pair", br"\ud83d\ude00", Some("\u{1f600}")),
    ("BOM inside", b"\xef\xbb\xbfx", Some("\u{feff}x")),
    ("noncharacter", b"\xef\xbf\xbf", Some("\u{ffff}")),
    ("raw NUL", b"a\0b", None),
    ("raw line break", b"a\nb", None),
    ("invalid UTF-8", b"a\xffb", None),
    ("cut UTF-8", b"\xe2\x82", None),
    ("overlong UTF-8", b"\xc0\xaf", None),
    ("surrogate in UTF-8", b"\xed\xa0\x80", None),
    ("lone leading surrogate", br"\ud800", None),
    ("lone trailing surrogate", br"\udc00x", None),
    ("swapped surrogates", br"\ude00\ud83d", None),
    ("no such escape", br"\x41", None),
];

/// Sends each of the texts to each endpoint that takes one.
fn damaged_texts_over_http(daemon: &Daemon, is_fake: bool) {
    for (path, before, after) in [
        (
            CHAT,
            r#"{"messages":[{"role":"user","content":""#,
            r#""}],"max_tokens":4}"#,
        ),
        ("/v1/completions", r#"{"prompt":""#, r#"","max_tokens":4}"#),
        ("/v1/embeddings", r#"{"input":""#, r#""}"#),
        ("/tokenize", r#"{"content":""#, r#""}"#),
        (
            "/api/chat",
            r#"{"stream":false,"messages":[{"role":"user","content":""#,
            r#""}],"options":{"num_predict":4}}"#,
        ),
        (
            "/api/generate",
            r#"{"stream":false,"prompt":""#,
            r#"","options":{"num_predict":4}}"#,
        ),
        ("/api/embed", r#"{"input":""#, r#""}"#),
    ] {
        for (what, text, valid) in TEXTS {
            let body = [before.as_bytes(), text, after.as_bytes()].concat();
            let head = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
            let said = raw(daemon, &[post(path, "1.1", &head, ""), body].concat());
            let expected = if valid.is_some() { "200" } else { "400" };
            assert_eq!(statuses(&said), [expected], "{path}, {what}: {said}");
            let json = said.split_once("\r\n\r\n").unwrap().1;
            let answer: Value = serde_json::from_str(json).unwrap();
            if let Some(valid) = valid.filter(|_| is_fake && path == CHAT) {
                // The fake engine echoes the request, as far as it may.
                let answer = content(&answer);
                let is_whole = valid.len() <= 4;
                assert!(
                    if is_whole {
                        answer == valid
                    } else {
                        valid.starts_with(answer)
                    },
                    "{what}: {answer:?}"
                );
            }
        }
        // A BOM before JSON is not part of it.
        let body = format!("\u{feff}{before}x{after}");
        let head = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
        let said = raw(daemon, &post(path, "1.1", &head, &body));
        assert_eq!(statuses(&said), ["400"], "{path}: {said}");
    }
}

fn damaged_texts_over_dbus(daemon: &Daemon) {
    let bus = Bus::connect(daemon);
    // On the bus, strings are valid UTF-8 without NUL; that does not cover the JSON
    // inside.
    for (what, text, valid) in TEXTS {
        let Ok(text) = std::str::from_utf8(text) else {
            continue;
        };
        if text.contains('\0') {
            continue;
        }
        let schema = format!(r#"{{"const":"{text}"}}"#);
        let answer = bus.generate_json("Say it.", &schema);
        match (valid, answer) {
            (Some(valid), Ok(answer)) => {
                let said: String = serde_json::from_str(&answer).unwrap();
                assert_eq!(said, *valid, "{what}");
            }
            (None, Err(said)) => assert!(said.contains("Error.InvalidSchema"), "{what}: {said}"),
            (_, answer) => panic!("{what}: {answer:?}"),
        }
    }
    assert!(
        bus.generate_json("x", "\u{feff}{}")
            .unwrap_err()
            .contains("InvalidSchema")
    );
}

fn damaged_texts(daemon: &Daemon, is_fake: bool) {
    damaged_texts_over_http(daemon, is_fake);
    damaged_texts_over_dbus(daemon);
    assert_eq!(daemon.health()["service"]["engine_crashes"], 0);
}

#[test]
fn damaged_texts_are_refused_by_every_interface() {
    damaged_texts(&Daemon::fake(""), true);
}

#[test]
fn damaged_texts_do_no_harm_to_a_real_model() {
    damaged_texts(&Daemon::real(), false);
}
