//! Reuse is exact: a prompt that continues from a cached prefix (shared in memory, under
//! eviction, after an unload, a restart or a SIGKILL) has the same probabilities as in a
//! cold engine, for every kind of memory.
//!
//! Two cold runs of one prompt also differ where they compute it in different parts
//! ([`Cold::noise`]): a difference is compared with that.

#[path = "reuse/cold.rs"]
mod cold;
#[path = "reuse/factors.rs"]
mod factors;
#[path = "reuse/interleaved.rs"]
mod interleaved;
#[path = "reuse/reproducible.rs"]
mod reproducible;
#[path = "reuse/times.rs"]
mod times;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_proto::{Command, DiskCache, GenerateRequest, LoadRequest, Prompt};

use cold::{Cold, difference, first_of};

use crate::harness::{Engine, family_model, load, random_model, request};
use crate::real_model::real_model;

/// A model, and texts whose length suits it.
struct Case {
    name: &'static str,
    path: PathBuf,
    load: LoadRequest,
    /// The common prefix.
    system: String,
    /// Another text of the same length, which causes evictions.
    other: String,
}

/// How much of a prompt was reused, and how far its result is from a cold run.
#[derive(Debug)]
struct Row {
    how: &'static str,
    cached: u32,
    prompt: u32,
    difference: f32,
    noise: f32,
}

/// Synthetic models have bytes as tokens; their sliding window is 64.
fn synthetic(name: &'static str) -> Case {
    let path = match name {
        "full" => random_model("reuse-full", "2,128,256,4,2,600", "f16"),
        family => family_model(family),
    };
    Case::new(
        name,
        path,
        "You are the voice of a house, and it is evening. ",
        12,
    )
}

/// The sentences have about 45 tokens; the window of Gemma 3 270M is 512.
fn real(name: &'static str, times: usize) -> Option<Case> {
    let path = real_model(name)?;
    let system = "The password of the day is 'violet harbour'. Answer in one short sentence. \
                  The lamp in the kitchen is on, the one in the hall is off. ";
    Some(Case::new(name, path, system, times))
}

impl Case {
    fn new(name: &'static str, path: PathBuf, sentence: &str, times: usize) -> Self {
        let load = LoadRequest {
            context_size: 1536,
            kept_tokens: 1536,
            ..load(&path)
        };
        Self {
            name,
            load,
            path,
            system: sentence.repeat(times),
            other: "Quite another text that has nothing to do with it, but wants room. "
                .repeat(times * sentence.len() / 66),
        }
    }

    fn prompt(&self, id: u64, question: &str) -> GenerateRequest {
        let text = format!("{}{question}", self.system);
        plain(id, text)
    }
}

/// A prompt without template, answered with a few tokens.
fn plain(id: u64, text: String) -> GenerateRequest {
    let mut plain = GenerateRequest {
        max_tokens: Some(4),
        uid: Some(1000),
        logprobs: Some(20),
        ..request(id, Prompt::Text(text))
    };
    // A model that ends at once reports no probabilities.
    plain.sampling.ignore_eos = true;
    plain
}

fn disk(folder: &Path) -> DiskCache {
    DiskCache {
        folder: folder.to_owned(),
        max_bytes: 1 << 30,
        daily_write_bytes: 1 << 30,
        min_tokens: 16,
    }
}

fn start(load: &LoadRequest) -> Engine {
    let mut engine = Engine::start(&[]);
    engine.load(load).unwrap();
    engine
}

fn shut_down(mut engine: Engine) {
    engine.send(&Command::Shutdown);
    assert_eq!(engine.wait(Duration::from_mins(1)).code(), Some(0));
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter(|e| {
            e.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "kv")
        })
        .count()
}

fn wait_for_file(folder: &Path) {
    let began = Instant::now();
    while files(folder) == 0 {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "nothing was written"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Collects the rows of a case.
struct Rows<'a> {
    case: &'a Case,
    cold: Cold,
    rows: Vec<Row>,
}

impl Rows<'_> {
    /// Answers a request, and compares the answer with a cold engine's.
    fn ask(&mut self, engine: &mut Engine, how: &'static str, request: &GenerateRequest) -> String {
        let first = first_of(engine, self.rows.len() as u64 + 1, request);
        self.rows.push(self.cold.row(how, request, &first));
        first.text
    }

    /// Asks a question after the common prefix.
    fn question(&mut self, engine: &mut Engine, how: &'static str, question: &str) -> String {
        let request = self.case.prompt(0, question);
        self.ask(engine, how, &request)
    }

    /// Reuse of what is in memory.
    fn in_memory(&mut self, engine: &mut Engine) {
        self.question(engine, "computed", "What is on?");
        // Two prompts that diverge after the same prefix, and a third that finds it.
        self.question(engine, "parted", "And the hall?");
        let turn = self.question(engine, "shared", "Who asks?");
        let next = format!("{}Who asks?{turn} And what then?", self.case.system);
        self.ask(engine, "next turn", &plain(0, next));
        self.question(engine, "once more", "Who asks?");
        // Other prompts evict the least recently used ones.
        for n in 0..6 {
            let other = plain(0, format!("{n}{}", self.case.other));
            first_of(engine, 100 + n, &other);
            if n % 2 == 0 {
                self.question(engine, "evictions", &format!("Is it {n} o'clock?"));
            }
        }
    }

    /// Reuse of what another process has written.
    fn after_a_restart(&mut self, engine: &mut Engine) {
        self.question(engine, "restart", "Good morning?");
        self.question(engine, "shared", "Good night?");
        engine.send(&Command::Shrink);
        self.question(engine, "shrink", "Cold outside?");
    }
}

/// Everything that may happen between a prompt and its reuse.
fn rows(case: &Case) -> Vec<Row> {
    let cached = |folder: &Path| LoadRequest {
        cache: Some(disk(folder)),
        ..case.load.clone()
    };
    let mut cold = Cold::new(&case.load);
    // Several prompts of this kind give the best estimate of the noise: repetitive text
    // makes it larger.
    for question in ["Is it late?", "Whose turn is it?"] {
        cold.of(&case.prompt(0, question));
    }
    let mut rows = Rows {
        case,
        cold,
        rows: Vec::new(),
    };
    let dir = tempfile::tempdir().unwrap();
    let load = cached(dir.path());
    let mut engine = start(&load);
    rows.in_memory(&mut engine);
    shut_down(engine);
    assert!(files(dir.path()) > 0, "{}: nothing was written", case.name);
    rows.after_a_restart(&mut start(&load));

    // Killed after it was idle for a while.
    let dir = tempfile::tempdir().unwrap();
    let load = cached(dir.path());
    let mut engine = start(&load);
    for question in ["What is on?", "And the hall?"] {
        first_of(&mut engine, 200, &case.prompt(0, question));
    }
    wait_for_file(dir.path());
    drop(engine);
    rows.question(&mut start(&load), "SIGKILL", "Still there?");
    rows.rows
}

/// The share of a prompt that must be reused at least, in per cent.
const REUSED: u32 = 80;

fn check(case: &Case) {
    let rows = rows(case);
    for row in &rows {
        println!(
            "{:<32} {:<10} {:>5} of {:>5} reused, off by {:.4}, noise {:.4}",
            case.name, row.how, row.cached, row.prompt, row.difference, row.noise
        );
    }
    for row in &rows {
        let is_new = ["computed", "parted"].contains(&row.how);
        assert!(
            is_new || row.cached * 100 >= row.prompt * REUSED,
            "{}: {row:?}",
            case.name
        );
        assert!(row.difference <= row.noise, "{}: {row:?}", case.name);
    }
}

macro_rules! synthetic {
    ($($test:ident $name:literal)*) => {
        $(
            #[test]
            fn $test() {
                let case = synthetic($name);
                check(&case);
                std::fs::remove_file(case.path).unwrap();
            }
        )*
    };
}

synthetic! {
    full_attention_is_exact "full"
    a_sliding_window_is_exact "gemma3"
    short_convolutions_are_exact "lfm2"
    gated_delta_nets_are_exact "qwen35"
    mamba_2_is_exact "granite-hybrid"
    mamba_is_exact "mamba"
    two_sets_of_factors_are_exact "long-rope"
    compressed_keys_are_exact "mla"
    experts_are_exact "moe"
}

macro_rules! real {
    ($($test:ident $name:literal $times:literal)*) => {
        $(
            #[test]
            fn $test() {
                if let Some(case) = real($name, $times) {
                    check(&case);
                }
            }
        )*
    };
}

real! {
    gemma_is_exact "gemma3-270m-q4_k_m.gguf" 22
    smollm_is_exact "smollm2-135m-instruct-q4_1.gguf" 10
    qwen_is_exact "qwen2.5-coder-0.5b-q4_k_m.gguf" 6
}

/// The difference that a wrong state causes: the bound must be far below it.
#[test]
fn another_beginning_is_far_from_the_noise() {
    for name in [
        "full",
        "gemma3",
        "lfm2",
        "qwen35",
        "granite-hybrid",
        "mamba",
    ] {
        let case = synthetic(name);
        let mut cold = Cold::new(&case.load);
        let asked = case.prompt(0, "What is on?");
        let other = plain(0, format!("{}What is on?", case.other));
        let (right, noise) = cold.of(&asked);
        let (wrong, _) = cold.of(&other);
        let far = difference(&right, &wrong);
        println!("{name}: another beginning is off by {far:.4}, noise {noise:.4}");
        assert!(far > 2.0 * noise, "{name}: {far} {noise}");
        std::fs::remove_file(case.path).unwrap();
    }
}
