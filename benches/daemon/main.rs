//! What the path through the daemon costs, and what it saves: measured through the real
//! binaries, against the bare engine loop or against the same work without it. Only
//! reports, passes no judgement. See docs/performance.md.
//!
//! `cargo bench --bench daemon -- --help` (or `make bench`).
#![expect(
    clippy::disallowed_methods,
    clippy::unnecessary_debug_formatting,
    reason = "a benchmark reads the clock"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;

#[path = "../../tests/daemon/client.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod client;
mod doors;
#[path = "../../tests/common/executables.rs"]
mod executables;
#[path = "../../tests/daemon/harness.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod harness;
mod report;
mod scenes;
mod timing;

use report::Report;

fn engine() -> PathBuf {
    executables::beside(env!("CARGO_BIN_EXE_hearthd"), "hearth-engine")
}

/// Measures the daemon on models with random weights, made on the spot.
#[derive(Parser)]
struct Args {
    /// Models: `demo`, `0.5b`, `1b`, or dimensions as `hearth-engine make-model` takes them.
    #[arg(long, default_values = ["demo", "0.5b"])]
    shape: Vec<String>,
    /// How the weights are stored: `q4_0`, `q4_k_m` or another of `make-model`'s.
    #[arg(long = "type", default_values = ["q4_0"])]
    storage: Vec<String>,
    /// How often each thing is measured; the medians count.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 48)]
    tokens: u32,
    /// Tokens of the constant prefix; what runs in the background has two thirds of it.
    #[arg(long, default_value_t = 3000)]
    prefix: u32,
    /// Compute threads.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Only these: streams, callers, prefix, background, forced, lookup, questions; or doors.
    #[arg(long)]
    scene: Vec<String>,
    /// Where the figures go as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/daemon.json"))]
    json: PathBuf,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

type Scene = fn(&Bench, &mut Report);

/// The benchmarks, by name.
const SCENES: [(&str, Scene); 7] = [
    ("streams", scenes::streams),
    ("callers", scenes::callers),
    ("prefix", scenes::prefix),
    ("background", scenes::background),
    ("forced", scenes::forced),
    ("lookup", scenes::lookup),
    ("questions", doors::questions),
];

/// Parameters of the benchmark.
struct Bench {
    model: PathBuf,
    runs: usize,
    tokens: u32,
    prefix: u32,
    threads: u32,
}

fn main() {
    let args = Args::parse();
    // `cargo test --benches` only checks that it builds.
    if !args.bench {
        return;
    }
    let mut report = Report::new(args.threads, args.runs);
    let wants = |name: &str| args.scene.is_empty() || args.scene.iter().any(|scene| scene == name);
    scenes::daemon(&mut report);
    if wants("doors") {
        doors::latency(args.runs.max(1), &mut report);
        doors::clients(&mut report);
    }
    let models = args
        .shape
        .iter()
        .flat_map(|shape| args.storage.iter().map(move |storage| (shape, storage)));
    for (shape, storage) in models {
        report.model(&format!("{shape}, {storage}, random weights"));
        let bench = Bench {
            model: model(shape, storage),
            runs: args.runs.max(1),
            tokens: args.tokens,
            prefix: args.prefix,
            threads: args.threads,
        };
        for (name, scene) in SCENES {
            if wants(name) {
                scene(&bench, &mut report);
            }
        }
    }
    println!("{}", report.markdown());
    fs::write(&args.json, report.json()).unwrap();
    println!("As JSON: {}", args.json.display());
}

/// The model file, written once.
fn model(shape: &str, storage: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("bench-{}-{storage}.gguf", shape.replace(',', "-")));
    if path.exists() {
        return path;
    }
    // Under another name until it is complete.
    let part = path.with_extension("part");
    let made = Command::new(engine())
        .args(["make-model", "--shape", shape, "--type", storage, "--out"])
        .arg(&part)
        .status();
    assert!(made.unwrap().success(), "no model of shape {shape}");
    fs::rename(&part, &path).unwrap();
    path
}
