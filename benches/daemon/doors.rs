//! The transports: the latency that each adds to a token, how many small requests it
//! answers while the engine works, and the cost of an open stream.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Bench;
use crate::client::{Bus, Streamed, send_to};
use crate::harness::{BUS_NAME, Daemon, Engine, Setup};
use crate::report::Report;
use crate::scenes::{LONG, resident_mib, serve};
use crate::timing::{bare, by_bus, median, request};

/// Tokens of an answer of the latency benchmark: a p99 needs some hundreds from each.
const TICKS: u32 = 1000;

/// Streams that are open at once.
const CLIENTS: u16 = 64;

/// How long one kind of request is repeated.
const ASKING: Duration = Duration::from_secs(1);

/// The fake engine's clock wraps after this many microseconds.
const CLOCK_US: u64 = 1_000_000_000;

/// From the sampling of a token to the client that has read it, for each transport. The
/// engine sleeps a millisecond per token and computes nothing.
pub fn latency(runs: usize, report: &mut Report) {
    report.model("The doors, before an engine that only sleeps");
    let daemon = Daemon::fake("token-ms=1,repeat=1000,clock=1");
    let bus = Bus::connect(&daemon);
    let body = request("", "What time is it?", TICKS);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let mut ollama = json!({"model": "fake", "stream": true, "messages": body["messages"]});
    ollama["options"] = json!({"num_predict": TICKS});
    for door in ["HTTP, OpenAI's", "HTTP, Ollama's", "D-Bus pipe"] {
        let (mut middle, mut slowest) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let mut times = match door {
                "HTTP, OpenAI's" => {
                    let path = "/v1/chat/completions";
                    let socket = send_to(&daemon, path, &streamed.to_string());
                    ticks(BufReader::new(socket).lines(), "/choices/0/delta/content")
                }
                "HTTP, Ollama's" => {
                    let socket = send_to(&daemon, "/api/chat", &ollama.to_string());
                    ticks(BufReader::new(socket).lines(), "/message/content")
                }
                _ => {
                    let pipe = bus.open_stream(&body, &HashMap::new()).unwrap();
                    ticks(BufReader::new(pipe).lines(), "/text")
                }
            };
            times.sort_by(f64::total_cmp);
            assert!(times.len() >= 500, "{door}: {} tokens", times.len());
            middle.push(times[times.len() / 2]);
            slowest.push(times[times.len() * 99 / 100]);
        }
        let what = format!("{door}: a token's way from the sampler to the client");
        report.row(&what, median(middle), "µs", None, "median");
        report.row(&what, median(slowest), "µs", None, "p99");
    }
}

/// The age of each token when its line had been read, in microseconds.
fn ticks(lines: Lines<impl BufRead>, pointer: &str) -> Vec<f64> {
    let mut ages = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_micros()).unwrap() % CLOCK_US;
        let data = line.strip_prefix("data: ").unwrap_or(&line);
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            continue;
        };
        let text = event.pointer(pointer).and_then(Value::as_str);
        for time in text.unwrap_or_default().as_bytes().chunks_exact(9) {
            let time: u64 = std::str::from_utf8(time).unwrap().parse().unwrap();
            let age = (now + CLOCK_US - time) % CLOCK_US;
            ages.push(f64::from(u32::try_from(age).unwrap()));
        }
    }
    ages
}

/// The memory that the daemon uses for each open stream; sixteen are answered at once, the
/// others wait.
pub fn clients(report: &mut Report) {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake("token-ms=20,repeat=1000"),
        config: "[engine]\nslots = 16\n[queue]\nlength_max = 64\n",
        ..Setup::default()
    });
    let question = request("", "A first question.", 4000);
    drop(Streamed::open(&daemon, question.clone()));
    let before = resident_mib(daemon.child.id());
    let mut streamed = question;
    streamed["stream"] = true.into();
    let body = streamed.to_string();
    let open: Vec<UnixStream> = (0..CLIENTS)
        .map(|_| send_to(&daemon, "/v1/chat/completions", &body))
        .collect();
    loop {
        let health = daemon.health();
        let state = &health["service"];
        let count = |key: &str| state[key].as_u64().unwrap();
        if count("active_jobs") + count("queue_length") == u64::from(CLIENTS) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let with = resident_mib(daemon.child.id());
    drop(open);
    let each = (with - before) * 1024.0 / f64::from(CLIENTS);
    let note = format!("daemon: {before:.1} MiB with none, {with:.1} MiB with {CLIENTS}");
    report.row("memory for an open stream", each, "KiB", None, &note);
}

/// Small requests per second, from one connection, one after another: while the daemon is
/// otherwise idle, and while an answer is generated; and what they cost that answer.
pub fn questions(bench: &Bench, report: &mut Report) {
    let (daemon, bus) = serve(bench, 2);
    let is_fast = bare(bench, bench.tokens) > 100.0;
    let answer = request("", "Tell me.", if is_fast { LONG } else { bench.tokens });
    let undisturbed = (0..bench.runs).map(|_| by_bus(&bus, &answer, "normal").per_second());
    let undisturbed = median(undisturbed.collect());
    let mut door = Door::open(&daemon);
    let mut ask = |what: &str| match what.strip_prefix("GET ") {
        Some(path) => door.get(path),
        None => _ = bus.number("/org/hearthd/Inference1", BUS_NAME, "ActiveThreads"),
    };
    for what in ["GET /health", "GET /api/tags", "D-Bus property"] {
        let mut ask = || ask(what);
        let idle = median((0..bench.runs).map(|_| rate(&mut ask)).collect());
        report.row(&format!("{what}: idle"), idle, "1/s", None, "");
        let stop = AtomicBool::new(false);
        let (busy, speed) = std::thread::scope(|scope| {
            let answers = scope.spawn(|| {
                let bus = Bus::connect(&daemon);
                let mut speeds = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    speeds.push(by_bus(&bus, &answer, "normal").per_second());
                }
                median(speeds)
            });
            while daemon.health()["service"]["active_jobs"] != 1 {}
            let busy = median((0..bench.runs).map(|_| rate(&mut ask)).collect());
            stop.store(true, Ordering::Relaxed);
            (busy, answers.join().unwrap())
        });
        let during = format!("{what}: during an answer");
        report.row(&during, busy, "1/s", Some(idle), "of idle");
        let what = format!("that answer, under as many {what} as fit");
        report.row(&what, speed, "tok/s", Some(undisturbed), "of undisturbed");
    }
}

/// How many times per second `ask` runs.
fn rate(ask: &mut impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut times = 0u32;
    while began.elapsed() < ASKING {
        ask();
        times += 1;
    }
    f64::from(times) / began.elapsed().as_secs_f64()
}

/// A connection that is reused for several requests.
struct Door(BufReader<UnixStream>);

impl Door {
    fn open(daemon: &Daemon) -> Self {
        Self(BufReader::new(
            UnixStream::connect(daemon.socket()).unwrap(),
        ))
    }

    fn get(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        let mut lines = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if lines == 0 {
                assert!(line.starts_with("HTTP/1.1 200"), "{line}");
            }
            lines += 1;
            if line == "\r\n" {
                break;
            }
            if let Some(n) = line.to_lowercase().strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
    }
}
