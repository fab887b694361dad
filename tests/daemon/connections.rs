//! Connections that are slow, half open, too many, or closed at once.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{Bus, Options, Streamed, chat, connect, content, counted, post, raw, rest};
use crate::harness::{Daemon, PATIENCE, Setup, error, ok, root, until};
use crate::not_checked::not_checked;
use crate::storms::{RSS_SLACK, ended, held, idle};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The text of a stream, given all of its bytes.
fn streamed(all: &str) -> String {
    let events = all.lines().filter_map(|line| line.strip_prefix("data: "));
    events
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect()
}

/// A request whose streamed answer is far longer than the buffers of a socket or a pipe.
fn endless() -> Value {
    let mut request = chat(&counted(1500));
    request["max_tokens"] = 30_000.into();
    request["stream"] = true.into();
    request
}

#[test]
fn a_slow_reader_does_not_delay_others() {
    let daemon = Daemon::start(Setup {
        config: "[model]\ncontext = 32768\n",
        ..Setup::default()
    });
    let mut slow = post(&daemon, &endless());
    let mut all = vec![0; 40];
    for (n, byte) in all.iter_mut().enumerate() {
        slow.read_exact(std::slice::from_mut(byte)).unwrap();
        let quick = format!("quick {n}");
        assert_eq!(content(&daemon.chat(&chat(&quick).to_string())), quick);
    }
    // The slow client received everything.
    let all = String::from_utf8(all).unwrap() + &rest(&mut slow);
    assert_eq!(streamed(&all), counted(1500));
}

#[test]
fn clients_that_do_not_read_are_disconnected() {
    let daemon = Daemon::start(Setup {
        engine: crate::harness::Engine::Fake("token-ms=2"),
        config: "[model]\ncontext = 32768\n[queue]\nunread_s = 1\n",
        ..Setup::default()
    });
    let bus = Bus::connect(&daemon);
    daemon.chat(&chat("x").to_string());
    let files = held(daemon.child.id()).0;
    let mut silent = post(&daemon, &endless());
    let mut pipe = bus.open_stream(&endless(), &Options::new()).unwrap();
    until("both are cancelled", || ended(&daemon, "cancelled") == 2);
    until("nothing is kept of them", || {
        held(daemon.child.id()).0 <= files
    });
    // What was written before arrives, and then the stream ends.
    let all = rest(&mut silent);
    assert!(all.starts_with("HTTP/1.1 200 ") && !all.contains("[DONE]"));
    assert!(counted(1500).starts_with(&streamed(&all)));
    assert!(!rest(&mut pipe).contains("finished"));
}

#[test]
fn incomplete_requests_time_out() {
    let daemon = Daemon::start(Setup {
        config: "idle_s = 1\nbody_s = 1\n",
        ..Setup::default()
    });
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n";
    let late = "HTTP/1.1 408 ";
    let half: Vec<(String, &str)> = vec![
        (String::new(), ""),
        (head.into(), ""),
        (format!("{head}Content-Length: 100\r\n\r\n{{\"mess"), late),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"m"),
            late,
        ),
        (
            "POST /api/chat HTTP/1.1\r\nContent-Length: 9\r\n\r\n".into(),
            late,
        ),
    ];
    let mut sockets: Vec<UnixStream> = half.iter().map(|_| connect(&daemon)).collect();
    for ((part, _), socket) in half.iter().zip(&mut sockets) {
        socket.write_all(part.as_bytes()).unwrap();
    }
    // They do not delay other requests.
    assert_eq!(content(&daemon.chat(&chat("quick").to_string())), "quick");
    for ((part, answer), socket) in half.iter().zip(&mut sockets) {
        let said = rest(socket);
        assert!(said.starts_with(answer), "{part:?}: {said:?}");
        assert_eq!(said.is_empty(), answer.is_empty(), "{part:?}: {said:?}");
        assert!(said.is_empty() || said.contains("`http.body_s`"), "{said}");
    }
    // Nor does waiting for a second request on a connection.
    let mut kept = connect(&daemon);
    kept.write_all(HEALTH).unwrap();
    let said = rest(&mut kept);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    // A connection with a long answer is not idle.
    let long = format!("!slow {}", "and on ".repeat(10));
    assert_eq!(content(&daemon.chat(&chat(&long).to_string())), long);
}

/// Sends a request and keeps the connection open; returns the first bytes of the
/// response.
fn ask<T: std::io::Read + std::io::Write>(socket: &mut T) -> String {
    _ = socket.write_all(HEALTH);
    let mut bytes = [0; 12];
    let answer = socket.read_exact(&mut bytes);
    answer.map_or_else(
        |e| e.to_string(),
        |()| String::from_utf8_lossy(&bytes).into(),
    )
}

/// Opens this many accepted connections that stay open. Connections that have just ended
/// may still count for a moment.
fn hold<T: std::io::Read + std::io::Write>(count: usize, connect: impl Fn() -> T) -> Vec<T> {
    let mut held = Vec::new();
    until("as many connections are open", || {
        let mut socket = connect();
        if ask(&mut socket) == "HTTP/1.1 200" {
            held.push(socket);
        }
        held.len() == count
    });
    held
}

#[test]
fn one_client_cannot_use_all_connections() {
    let listen = root().join("tests/clients/listen.py").display().to_string();
    let daemon = Daemon::start(Setup {
        config: "connections_max = 8\n",
        wrapper: vec!["python3".into(), listen],
        ..Setup::default()
    });
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let port = fs::read_to_string(daemon.dir.path().join("port")).unwrap();
    let over_tcp = || {
        let socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    // From another user, if this process can switch users.
    let another = || {
        let mut curl = Command::new("setpriv");
        let curl = curl.args(["--reuid", "4", "--regid", "65534", "--clear-groups"]);
        let curl = curl.args(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"]);
        let curl = curl.arg("--unix-socket").arg(daemon.socket());
        ok(&curl.arg("http://localhost/health").output().unwrap())
    };
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        not_checked("another user's share: several accounts need root");
    }
    let mut mine = hold(4, || connect(&daemon));
    // The fifth is rejected, however long its request is.
    let long = [HEALTH, &vec![b'x'; 1 << 20]].concat();
    for request in [HEALTH, &long, b""] {
        let said = raw(&daemon, request).to_lowercase();
        assert!(said.starts_with("http/1.1 503 "), "{said:?}");
        for part in [
            "retry-after: 5\r\n",
            "connection: close\r\n",
            "\"code\":\"busy\"",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
    assert!(daemon.log().contains("too many connections"));
    // The open ones of this user continue, and other users can connect.
    assert!(mine.iter_mut().all(rest_of_health));
    assert!(!is_root || another() == "200");
    let tcp = hold(4, over_tcp);
    assert!(!is_root || another() == "503");
    assert_eq!(ask(&mut over_tcp()), "HTTP/1.1 503");
    drop(mine);
    until("there is room again", || {
        ask(&mut connect(&daemon)).ends_with("200")
    });
    assert!(!is_root || another() == "200");
    drop(tcp);
    until("for all", || ask(&mut over_tcp()).ends_with("200"));
}

/// Reads the rest of the response that [`ask`] began to read, and sends another request.
fn rest_of_health(socket: &mut UnixStream) -> bool {
    let mut seen = String::new();
    while !seen.contains("\"version\"") && !seen.ends_with("}}") {
        let mut part = [0; 4096];
        let n = socket.read(&mut part).unwrap();
        seen.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    ask(socket) == "HTTP/1.1 200"
}

/// Sets the daemon's limit on open files.
fn limit_files(daemon: &Daemon, files: u32) {
    let mut prlimit = Command::new("prlimit");
    let pid = daemon.child.id().to_string();
    let prlimit = prlimit.args(["--pid", &pid, &format!("--nofile={files}:20000")]);
    ok(&prlimit.output().unwrap());
}

#[test]
fn connections_are_limited_by_the_limit_of_open_files() {
    let daemon = Daemon::start(Setup {
        wrapper: ["prlimit", "--nofile=64:20000"].map(str::to_owned).into(),
        ..Setup::default()
    });
    let long = format!("!slow {}", counted(12));
    let running = Streamed::open(&daemon, chat(&long));
    let engine = daemon.engine_pid().unwrap();
    let crowd: Vec<UnixStream> = (0..200).map(|_| connect(&daemon)).collect();
    let mut let_in = Vec::new();
    for mut socket in crowd {
        match ask(&mut socket).as_str() {
            "HTTP/1.1 200" => let_in.push(socket),
            answer => assert_eq!(answer, "HTTP/1.1 503"),
        }
    }
    // A quarter of 64 in all, half of that per user.
    assert!(let_in.len() < 8, "{}", let_in.len());
    // Enough descriptors are left for another engine.
    kill(Pid::from_raw(engine), Signal::SIGKILL).unwrap();
    let (text, failed) = running.end();
    assert!(failed.is_null(), "{failed}");
    assert_eq!(text, long);
    drop(let_in);
    until("there is room again", || {
        ask(&mut connect(&daemon)).ends_with("200")
    });
    assert_eq!(daemon.health()["service"]["engine_crashes"], 1);
}

/// CPU time, in ticks of 10 ms.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_file_descriptors_the_daemon_waits_and_does_not_spin() {
    let daemon = Daemon::fake("");
    let bus = Bus::connect(&daemon);
    assert_eq!(bus.generate("before").unwrap(), "before");
    let mut open = hold(1, || connect(&daemon)).remove(0);
    limit_files(&daemon, 5);
    let mut waiting: Vec<UnixStream> = (0..10).map(|_| connect(&daemon)).collect();
    until("that was noticed", || {
        daemon.log().contains("cannot accept")
    });
    let before = ticks(&daemon);
    std::thread::sleep(Duration::from_secs(1));
    let spent = ticks(&daemon) - before;
    assert!(spent < 20, "{spent} ticks of 100");
    // The bus and the accepted connections continue.
    assert_eq!(bus.generate("still").unwrap(), "still");
    assert!(rest_of_health(&mut open));
    limit_files(&daemon, 20_000);
    for socket in &mut waiting {
        assert_eq!(ask(socket), "HTTP/1.1 200");
    }
    assert_eq!(daemon.log().matches("cannot accept").count(), 1);
}

#[test]
fn ten_thousand_connections_leak_nothing() {
    const EACH: usize = 1250;
    let daemon = Daemon::start(Setup {
        config: "idle_s = 600\n[queue]\nlength_max = 100\n",
        ..Setup::default()
    });
    let storm = |each: usize| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let daemon = &daemon;
                scope.spawn(move || (0..each).for_each(|n| touch(daemon, n + thread)));
            }
        });
        idle(&daemon);
    };
    storm(EACH / 5);
    let engine = daemon.engine_pid();
    let (files, rss) = held(daemon.child.id());
    storm(EACH);
    until("as many files are open as before", || {
        held(daemon.child.id()).0 <= files
    });
    let now = held(daemon.child.id()).1;
    assert!(now <= rss + RSS_SLACK, "{rss} KiB, then {now} KiB");
    assert_eq!(content(&daemon.chat(&chat("after").to_string())), "after");
    assert_eq!(daemon.engine_pid(), engine);
}

/// One short connection, of several kinds.
fn touch(daemon: &Daemon, n: usize) {
    let mut socket = connect(daemon);
    match n % 6 {
        0 => {}
        1 => _ = socket.write_all(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03garbage\r\n\r\n"),
        2 => _ = socket.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Le"),
        3 => _ = socket.write_all(b"POST /api/chat HTTP/1.1\r\nContent-Length: 50\r\n\r\n{\"a"),
        4 => assert_eq!(ask(&mut socket), "HTTP/1.1 200"),
        _ => drop(post(daemon, &chat("gone"))),
    }
}

#[test]
fn idle_connections_do_not_delay_the_shutdown() {
    // Idle and half-open connections do not delay the shutdown.
    let mut daemon = Daemon::fake("");
    let idle = hold(1, || connect(&daemon));
    let running = Streamed::open(&daemon, chat(&format!("!slow {}", counted(5))));
    daemon.signal(Signal::SIGTERM);
    let (text, failed) = running.end();
    assert!(failed.is_null(), "{failed}");
    assert_eq!(text, format!("!slow {}", counted(5)));
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.socket().exists());
    drop(idle);
    assert!(error(&daemon.curl("/health", &[])).contains("connect"));
}

#[test]
fn a_client_that_has_ended_its_sending_side_gets_its_answer() {
    let daemon = Daemon::start(Setup {
        engine: crate::harness::Engine::Fake("token-ms=5"),
        config: "[model]\ncontext = 32768\n",
        ..Setup::default()
    });
    let long = counted(100);
    for stream in [false, true] {
        let mut request = chat(&long);
        request["stream"] = stream.into();
        let mut socket = post(&daemon, &request);
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = rest(&mut socket);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let got = if stream {
            streamed(&answer)
        } else {
            content(&serde_json::from_str(body).unwrap()).to_owned()
        };
        assert_eq!(got, long);
    }
    // One that has gone altogether is noticed as before.
    let socket = post(&daemon, &endless());
    until("it runs", || daemon.health()["service"]["active_jobs"] == 1);
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    drop(socket);
    until("it is cancelled", || ended(&daemon, "cancelled") == 1);
}
