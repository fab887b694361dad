//! The benchmarks, one function each.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hearth_proto::bus::{PATH, PROMPT_CACHE_INTERFACE};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use zbus::Variant;

use crate::Bench;
use crate::client::Bus;
use crate::harness::{Daemon, Engine, Setup, ok};
use crate::report::Report;
use crate::timing::{Timing, bare, by_bus, by_http, median, request};

/// How long the idle daemon is measured.
const IDLE: Duration = Duration::from_secs(20);

/// Tokens of an answer of a fast model: with less than half a second, the noise of other
/// processes is too large.
pub const LONG: u32 = 1000;

/// Starts a daemon with the model in memory and its weights read.
pub fn serve(bench: &Bench, slots: u32) -> (Daemon, Bus) {
    serve_with(bench, &format!("slots = {slots}"))
}

/// The same with these lines in `[engine]`.
fn serve_with(bench: &Bench, engine: &str) -> (Daemon, Bus) {
    let config = format!(
        "[engine]\nthreads = {}\n{engine}\n[model]\ndefault = \"bench\"\n",
        bench.threads
    );
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: config.leak(),
        ..Setup::default()
    });
    // A link is enough: the store looks at the file behind it.
    symlink(&bench.model, daemon.models().join("bench.gguf")).unwrap();
    load(&daemon);
    let bus = Bus::connect(&daemon);
    by_bus(&bus, &request("", "Warm up.", 4), "normal");
    (daemon, bus)
}

fn load(daemon: &Daemon) {
    ok(&daemon.call("LoadModel", &["sa{sv}", "bench", "0"]));
}

fn unload(daemon: &Daemon) {
    ok(&daemon.call("UnloadModels", &["a{sv}", "0"]));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Start, idle memory and CPU, without a model of the benchmark.
pub fn daemon(report: &mut Report) {
    report.model("The daemon without a model");
    let began = Instant::now();
    let daemon = Daemon::real();
    report.row(
        "start to bus name and socket",
        ms(began.elapsed()),
        "ms",
        None,
        "",
    );
    let before = cpu_ms(daemon.child.id());
    std::thread::sleep(IDLE);
    let spent = cpu_ms(daemon.child.id()) - before;
    let note = format!("in {} s", IDLE.as_secs());
    report.row("idle: CPU time", spent, "ms", None, &note);
    let resident = resident_mib(daemon.child.id());
    report.row("idle: resident memory", resident, "MiB", None, "");
}

/// One stream against the bare decode loop.
pub fn streams(bench: &Bench, report: &mut Report) {
    let (daemon, bus) = serve(bench, 2);
    let is_fast = bare(bench, bench.tokens) > 100.0;
    let tokens = if is_fast { LONG } else { bench.tokens };
    let question = request("", "Tell me.", tokens);
    let (mut bares, mut https, mut buses) = (Vec::new(), Vec::new(), Vec::new());
    let mut outside = Vec::new();
    for _ in 0..bench.runs {
        bares.push(bare(bench, tokens));
        // A process's speed depends on the location of its memory, by up to a fifth: the
        // daemon's engine is started again each time, as the bare one is.
        unload(&daemon);
        load(&daemon);
        by_bus(&bus, &question, "normal");
        https.push(by_http(&daemon, question.clone()).per_second());
        let timing = by_bus(&bus, &question, "normal");
        buses.push(timing.per_second());
        outside.push(timing.outside_us());
    }
    let of = median(bares);
    report.row("one stream: bare decode loop", of, "tok/s", None, "");
    report.row(
        "one stream: HTTP socket",
        median(https),
        "tok/s",
        Some(of),
        "of bare",
    );
    let by_bus = median(buses);
    report.row(
        "one stream: D-Bus pipe",
        by_bus,
        "tok/s",
        Some(of),
        "of bare",
    );
    report.row(
        "a token outside llama_decode",
        median(outside),
        "µs",
        Some(1e6 / by_bus),
        "of its time; sampling, text, two processes, pipe",
    );
}

/// Several concurrent callers against one.
pub fn callers(bench: &Bench, report: &mut Report) {
    let (daemon, _) = serve(bench, 4);
    let mut one = None;
    for callers in [1u32, 2, 4] {
        let rates = (0..bench.runs).map(|_| together(&daemon, callers, bench.tokens));
        let rate = median(rates.collect());
        let note = if callers == 1 { "" } else { "of one" };
        report.row(
            &format!("{callers} caller(s), in total"),
            rate,
            "tok/s",
            one,
            note,
        );
        one = one.or(Some(rate));
    }
}

/// Tokens per second of all callers, from the request to the end of the last answer.
fn together(daemon: &Daemon, callers: u32, tokens: u32) -> f64 {
    let all = usize::try_from(callers).unwrap() + 1;
    let barrier = Barrier::new(all);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..callers)
            .map(|n| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let question = request("", &format!("Caller {n}: tell me."), tokens);
                    barrier.wait();
                    by_http(daemon, question).tokens
                })
            })
            .collect();
        barrier.wait();
        let began = Instant::now();
        let tokens: u32 = clients.into_iter().map(|c| c.join().unwrap()).sum();
        f64::from(tokens) / began.elapsed().as_secs_f64()
    })
}

/// The usage of a home: a long constant prompt with tools, and a short question.
pub fn prefix(bench: &Bench, report: &mut Report) {
    let (mut daemon, bus) = serve(bench, 2);
    let tools: Value = (0..5)
        .map(|n| json!({"type": "function", "function": {"name": format!("tool_{n}"), "parameters": {"type": "object"}}}))
        .collect();
    let mut found: [(Vec<f64>, Option<Timing>); 4] = Default::default();
    let mut loading = Vec::new();
    for run in 0..bench.runs {
        let system = system_prompt(run, bench.prefix);
        for (n, (times, last)) in found.iter_mut().enumerate() {
            match n {
                2 => unload(&daemon),
                3 => {
                    daemon.signal(Signal::SIGTERM);
                    daemon.child.wait().unwrap();
                    daemon.restart();
                }
                _ => {}
            }
            let mut asked = request(&system, &format!("Is lamp {n} lit?"), 2);
            asked["tools"] = tools.clone();
            let timing = by_bus(&bus, &asked, "interactive");
            times.push(timing.first_ms());
            *last = Some(timing);
        }
        unload(&daemon);
        let began = Instant::now();
        load(&daemon);
        loading.push(ms(began.elapsed()));
    }
    let mut cold = None;
    let names = [
        "cold",
        "warm in RAM",
        "after unload",
        "after daemon restart",
    ];
    for (name, (times, last)) in names.into_iter().zip(found) {
        let last = last.unwrap();
        let note = format!(
            "{} of {} tokens cached",
            last.cached_tokens, last.prompt_tokens
        );
        let time = median(times);
        let what = format!("constant prefix, first token: {name}");
        report.row(&what, time, "ms", cold, &note);
        cold = cold.or(Some(time));
    }
    report.row("of the last two: loading", median(loading), "ms", None, "");
    report.row(
        "of the last two: reading and checking the file",
        verify_ms(bench, &daemon),
        "ms",
        None,
        "",
    );
}

/// A system prompt of `length` bytes with a different beginning in each run, so that the
/// first question has no cached prefix. A byte is a token in these models, and their
/// template ignores tools.
fn system_prompt(run: usize, length: u32) -> String {
    format!("House {run}. ")
        .chars()
        .chain("The lamp in the hall is on. ".chars().cycle())
        .take(usize::try_from(length).unwrap())
        .collect()
}

/// The time to read and check one cached prompt on disk.
fn verify_ms(bench: &Bench, daemon: &Daemon) -> f64 {
    let mut files = 0;
    let began = Instant::now();
    for _ in 0..bench.runs {
        files += ok(&daemon.call_at(PATH, PROMPT_CACHE_INTERFACE, "Verify", &[]))
            .matches("\"tokens\"")
            .count();
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let files = files.max(1) as f64;
    ms(began.elapsed()) / files
}

/// A question while a long prompt is prefilled in the background, against an idle engine.
pub fn background(bench: &Bench, report: &mut Report) {
    let (_daemon, bus) = serve(bench, 2);
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        let ask = |n: &str| {
            let question = request("", &format!("{n} {run}: is it on?"), 2);
            by_bus(&bus, &question, "interactive").first_ms()
        };
        idle.push(ask("Idle"));
        let long = format!("Text {run}. ") + &"The text goes on. ".repeat(200);
        let long = &long[..long
            .len()
            .min(usize::try_from(bench.prefix * 2 / 3).unwrap())];
        let options = HashMap::from([("priority", Variant::from("background"))]);
        let events = bus.open_stream(&request("", long, 1), &options).unwrap();
        let mut events = BufReader::new(events).lines();
        // Dropping them ends the job.
        while !events.next().unwrap().unwrap().contains("\"prefill\"") {}
        busy.push(ask("Busy"));
    }
    let idle = median(idle);
    report.row("a question, first token: idle", idle, "ms", None, "");
    report.row(
        "a question, first token: during a background prefill",
        median(busy),
        "ms",
        Some(idle),
        "of idle",
    );
}

/// An answer whose constraint forces most of it, against as many tokens without one.
pub fn forced(bench: &Bench, report: &mut Report) {
    let (_daemon, bus) = serve(bench, 2);
    let object = |properties: Value| {
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
    };
    let mut formed = request("", "Turn on a light.", 400);
    formed["json_schema"] = object(json!({
        "service": {"const": "light.turn_on"},
        "target": object(json!({"area_id": {"enum": ["living_room", "kitchen", "bedroom"]}})),
        "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
        "transition": {"type": "boolean"},
    }));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut decodes = (0, 0);
    for _ in 0..bench.runs {
        let timing = by_bus(&bus, &formed, "normal");
        decodes = (timing.tokens, timing.decodes);
        with.push(ms(timing.decoding));
        let free = by_bus(
            &bus,
            &request("", "Turn on a light.", timing.tokens),
            "normal",
        );
        without.push(f64::from(timing.tokens - 1) / free.per_second() * 1000.0);
    }
    let (tokens, decodes) = decodes;
    report.row(
        "JSON schema: tokens a decode",
        f64::from(tokens) / f64::from(decodes),
        "",
        None,
        &format!("{tokens} tokens in {decodes} decodes"),
    );
    let without = median(without);
    report.row("as many tokens without a form", without, "ms", None, "");
    report.row(
        "JSON schema: time",
        median(with),
        "ms",
        Some(without),
        "of without",
    );
}

/// An answer that repeats itself (forced by a bias on one token), the most that speculative
/// decoding can save; and one that does not.
pub fn lookup(bench: &Bench, report: &mut Report) {
    let plain = request("", "Again and again.", bench.tokens);
    let mut repeats = plain.clone();
    repeats["logit_bias"] = json!({"97": 100});
    let mut without = [None; 2];
    for guessed in [0, 4, 8] {
        let (_daemon, bus) = serve_with(bench, &format!("lookup_tokens = {guessed}"));
        for (n, (question, what)) in [(&repeats, "repeats itself"), (&plain, "does not")]
            .into_iter()
            .enumerate()
        {
            let rates = (0..bench.runs).map(|_| by_bus(&bus, question, "normal").per_second());
            let rate = median(rates.collect());
            let what = format!("an answer that {what}, {guessed} tokens guessed");
            let note = if guessed == 0 { "" } else { "of none" };
            report.row(&what, rate, "tok/s", without[n], note);
            without[n] = without[n].or(Some(rate));
        }
    }
}

/// User and system time (fields 14 and 15 of `/proc/PID/stat`, proc(5)), where a tick
/// is 10 ms on every common kernel.
fn cpu_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10.0
}

pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
