//! The whole way against the bare engine loop, in one run: what the daemon, the bus
//! and HTTP cost. Prints figures, judges nothing.
//!
//! `cargo bench --bench daemon` (or `make bench`); a random-weight model of a real
//! 0.5B shape is written to `target/tmp` once.
#![expect(
    clippy::disallowed_methods,
    clippy::unnecessary_debug_formatting,
    reason = "a benchmark reads the clock"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "../tests/daemon/harness.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod harness;

use harness::{Daemon, Engine, Setup, ok, until};

const TOKENS: u32 = 48;
const RUNS: usize = 7;
const ENGINE: &str = env!("CARGO_BIN_EXE_hearth-engine");

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    small_things();
    let demo = harness::root().join("packaging/demo-model/hearth-demo-q8_0.gguf");
    compare("demo model", &demo);
    compare("0.5B shape, Q4_0, random weights", &half_billion());
}

/// Start, first token, idle memory and CPU.
fn small_things() {
    let began = Instant::now();
    let daemon = Daemon::real();
    println!("start to bus name and socket      {:>9.1} ms", ms(began));
    let cpu = || cpu_ticks(daemon.child.id());
    let before = cpu();
    std::thread::sleep(Duration::from_mins(1));
    println!(
        "idle, no model: CPU in 60 s       {:>9} ms",
        (cpu() - before) * 10
    );
    println!(
        "idle, no model: resident          {:>9} KiB",
        rss_kib(daemon.child.id())
    );
    let began = Instant::now();
    _ = daemon.open_chat("What is the capital of Italy?");
    println!(
        "first request to first token      {:>9.1} ms (loads the demo model)",
        ms(began)
    );
}

fn compare(what: &str, model: &PathBuf) {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        // As the bare loop does it: greedy, one thread.
        config: "[engine]\nthreads = 1\n[sampling]\nmax_tokens = 48\ntemperature = 0.0\n",
        ..Setup::default()
    });
    // A link is enough: the store looks at the file behind it.
    std::os::unix::fs::symlink(model, daemon.models().join("bench.gguf")).unwrap();
    let (mut bare, mut http, mut bus) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(bare_rate(model));
        // A process's speed depends on where its memory came to lie, by up to a fifth:
        // the daemon's engine is a new one each time, as the bare one is.
        ok(&daemon.call("LoadModel", &["sa{sv}", "bench", "0"]));
        _ = http_rate(&daemon);
        http.push(http_rate(&daemon));
        bus.push(bus_rate(&daemon));
        ok(&daemon.call("UnloadModel", &[]));
    }
    let (bare, http, bus) = (median(bare), median(http), median(bus));
    println!("{what}, 1 thread, median of {RUNS}:");
    println!("  bare engine loop   {bare:>9.1} tok/s");
    println!(
        "  HTTP streaming     {http:>9.1} tok/s  {:>6.3} of bare",
        http / bare
    );
    println!(
        "  D-Bus OpenStream   {bus:>9.1} tok/s  {:>6.3} of bare",
        bus / bare
    );
}

fn bare_rate(model: &PathBuf) -> f64 {
    let output = Command::new(ENGINE)
        .arg("bench")
        .arg(model)
        .args([
            "--prompt-tokens",
            "16",
            "--threads",
            "1",
            "--runs",
            "1",
            "--json",
        ])
        .args(["--tokens", &TOKENS.to_string()])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_str(ok(&output).trim()).unwrap();
    report["decode_tokens_per_s"].as_f64().unwrap()
}

/// Text pieces between the first and the last, by the client's clock.
fn http_rate(daemon: &Daemon) -> f64 {
    let body = request();
    let mut socket = UnixStream::connect(daemon.socket()).unwrap();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut rate = Rate::default();
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        if line.contains("\"content\"") {
            rate.note();
        }
        if line.ends_with("[DONE]") {
            break;
        }
    }
    rate.per_second()
}

fn bus_rate(daemon: &Daemon) -> f64 {
    let mut client = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .args(["generate", "--json", "tell me"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut rate = Rate::default();
    for line in BufReader::new(client.stdout.take().unwrap()).lines() {
        if line.unwrap().contains("\"token\"") {
            rate.note();
        }
    }
    client.wait().unwrap();
    rate.per_second()
}

fn request() -> String {
    serde_json::json!({"stream": true, "messages": [{"role": "user", "content": "tell me"}]})
        .to_string()
}

#[derive(Default)]
struct Rate {
    first: Option<Instant>,
    last: Option<Instant>,
    count: u32,
}

impl Rate {
    fn note(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.count += 1;
    }

    fn per_second(&self) -> f64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) if last > first => {
                f64::from(self.count - 1) / (last - first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

fn half_billion() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("half-q4_0.gguf");
    if !path.exists() {
        let made = Command::new(ENGINE)
            .args(["make-model", "--shape", "0.5b", "--type", "q4_0", "--out"])
            .arg(&path)
            .status();
        until("the model is written", || {
            made.as_ref().is_ok_and(std::process::ExitStatus::success)
        });
    }
    path
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// User and system time in clock ticks (fields 14 and 15 of `/proc/PID/stat`, proc(5)).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
