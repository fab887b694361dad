//! The effect of the governor's limits on the real engine: threads, duty, pause.
//!
//! CPU time and the time that a thread waited for a CPU are read from the kernel's
//! scheduler statistics of each thread, in nanoseconds (kernel:
//! Documentation/scheduler/sched-stats.rst): other load on the machine makes no
//! difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hearth_proto::units::Permille;
use hearth_proto::{Biased, Command, Event, GenerateRequest, Limits, Prompt, RequestId, Sampling};

use crate::harness::{Engine, load, random_model, request};

/// Tokens of an answer that is measured.
const TOKENS: u32 = 60;

/// The number of attempts on a busy machine.
const TRIALS: u64 = 40;

/// A model whose tokens take a millisecond or two: much longer than any overhead.
fn model() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| random_model("acts", "6,768,2048,12,4,8000", "q4_0"))
}

/// Time of one thread.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    on_cpu: Duration,
    waiting: Duration,
}

/// Time of every thread so far.
fn spent(engine: &Engine) -> BTreeMap<String, Spent> {
    let tasks = fs::read_dir(format!("/proc/{}/task", engine.child.id())).unwrap();
    tasks
        .flatten()
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut ns = text.split_whitespace().map(|n| n.parse().unwrap());
            let mut next = || Duration::from_nanos(ns.next().unwrap());
            let spent = Spent {
                on_cpu: next(),
                waiting: next(),
            };
            Some((task.file_name().into_string().unwrap(), spent))
        })
        .collect()
}

/// The time spent since `before`, the thread with the most CPU time first.
fn since(engine: &Engine, before: &BTreeMap<String, Spent>) -> Vec<Spent> {
    let mut spent: Vec<Spent> = spent(engine)
        .into_iter()
        .map(|(thread, now)| {
            let before = before.get(&thread).copied().unwrap_or_default();
            Spent {
                on_cpu: now.on_cpu.saturating_sub(before.on_cpu),
                waiting: now.waiting.saturating_sub(before.waiting),
            }
        })
        .collect();
    spent.sort_by_key(|spent| std::cmp::Reverse(spent.on_cpu));
    spent
}

fn limits(threads: u32) -> Limits {
    Limits {
        threads,
        ..Limits::default()
    }
}

fn long_answer(id: u64, tokens: u32) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling {
            temperature: Some(0.0),
            // The end token is banned.
            logit_bias: vec![(Biased::Token(258), -100.0)],
            ..Sampling::default()
        },
        max_tokens: Some(tokens),
        ..request(id, Prompt::Text("once upon a time".into()))
    }
}

/// Returns once all commands sent before have been processed.
fn obeyed(engine: &mut Engine, mut seen: impl FnMut(&Event)) {
    engine.send(&Command::Detokenize {
        id: RequestId(999),
        tokens: Vec::new(),
    });
    loop {
        match engine.next() {
            Event::Detokenized { .. } => return,
            event => seen(&event),
        }
    }
}

fn tokens(engine: &mut Engine, n: u32) {
    for _ in 0..n {
        engine.until(|event| matches!(event, Event::Token { .. }));
    }
}

/// The number of processed prompt tokens in the next report.
fn prefilled(engine: &mut Engine) -> u32 {
    loop {
        if let Event::Prefill { done, .. } = engine.next() {
            return done;
        }
    }
}

#[test]
fn half_the_duty_is_half_the_time_on_the_cpu() {
    let mut engine = Engine::with_model(model());
    // The share of CPU time in the time in which it did not wait for a CPU.
    let mut share = |id, duty| {
        engine.send(&Command::SetLimits(Limits {
            duty: Permille(duty),
            ..limits(1)
        }));
        obeyed(&mut engine, |_| ());
        let (before, began) = (spent(&engine), Instant::now());
        engine.ask(long_answer(id, TOKENS));
        let took = began.elapsed();
        let first = since(&engine, &before)[0];
        first.on_cpu.as_secs_f64() / took.saturating_sub(first.waiting).as_secs_f64()
    };
    share(1, 1000);
    // A rest takes as long as the fastest of the last tokens. On a machine with steal
    // time other tokens take longer: then the test tries again.
    let mut ratios = Vec::new();
    for n in 1..=TRIALS {
        let ratio = share(2 * n, 500) / share(2 * n + 1, 1000);
        ratios.push(ratio);
        if (0.4..0.6).contains(&ratio) {
            println!("half the duty: {ratios:.3?} of the time on the CPU");
            return;
        }
    }
    panic!("half the duty: {ratios:.3?} of the time on the CPU");
}

#[test]
fn no_thread_spins_while_it_rests() {
    let mut engine = Engine::with_model(model());
    engine.send(&Command::SetLimits(limits(2)));
    engine.ask(long_answer(1, TOKENS));
    engine.send(&Command::SetLimits(Limits {
        duty: Permille(50),
        ..limits(2)
    }));
    obeyed(&mut engine, |_| ());
    let (before, began) = (spent(&engine), Instant::now());
    engine.ask(long_answer(2, 10));
    let took = began.elapsed();
    let all = since(&engine, &before);
    assert!(all[0].on_cpu < took / 3, "{all:?} of {took:?}");
}

#[test]
fn another_number_of_threads_holds_from_the_next_token_on() {
    let mut engine = Engine::with_model(model());
    engine.send(&Command::SetLimits(limits(1)));
    engine.send(&Command::Generate(long_answer(1, 1500)));
    tokens(&mut engine, 10);
    for (threads, decode_threads, takes_part) in
        [(2, 0, true), (1, 0, false), (2, 2, true), (2, 1, false)]
    {
        engine.send(&Command::SetLimits(Limits {
            decode_threads,
            ..limits(threads)
        }));
        obeyed(&mut engine, |_| ());
        let before = spent(&engine);
        tokens(&mut engine, TOKENS);
        let all = since(&engine, &before);
        // A thread that waits for a CPU also has work.
        let busy = all[1].on_cpu + all[1].waiting > (all[0].on_cpu + all[0].waiting) * 2 / 5;
        let idle = all[1].on_cpu < all[0].on_cpu / 10;
        println!("{threads} threads, {decode_threads} to decode: {all:?}");
        let as_told = if takes_part { busy } else { idle };
        assert!(
            as_told,
            "{threads} threads, {decode_threads} to decode: {all:?}"
        );
    }
}

#[test]
fn a_pause_cuts_in_after_one_piece_of_a_prompt() {
    let mut wanted = load(model());
    wanted.context_size = 4096;
    let mut engine = Engine::start(&[]);
    engine.load(&wanted).unwrap();
    let chunk = 64;
    let full = Limits {
        prefill_chunk: chunk,
        ..limits(2)
    };
    engine.send(&Command::SetLimits(full));
    let prompt = "a long story about nothing at all. ".repeat(40);
    let ask = |id| GenerateRequest {
        max_tokens: Some(8),
        ..request(id, Prompt::Text(prompt.clone()))
    };
    engine.send(&Command::Generate(ask(1)));
    let mut done = prefilled(&mut engine);
    let mut last = |event: &Event| {
        if let Event::Prefill { done: now, .. } = event {
            done = *now;
        }
    };
    obeyed(&mut engine, &mut last);
    engine.send(&Command::SetLimits(Limits {
        paused: true,
        ..full
    }));
    obeyed(&mut engine, &mut last);
    let paused_at = done;
    // Nothing is computed now, and no thread spins.
    let before = spent(&engine);
    std::thread::sleep(Duration::from_secs(1));
    let busy: Duration = since(&engine, &before).iter().map(|s| s.on_cpu).sum();
    assert!(busy < Duration::from_millis(10), "{busy:?}");

    engine.send(&Command::SetLimits(full));
    assert_eq!(
        prefilled(&mut engine),
        paused_at + chunk,
        "it went on where it was"
    );
    let answer = engine.collect(1);
    let mut undisturbed = Engine::start(&[]);
    undisturbed.load(&wanted).unwrap();
    undisturbed.send(&Command::SetLimits(full));
    assert_eq!(answer.text, undisturbed.ask(ask(2)).text);

    // An idle engine uses no more CPU time than a paused one.
    let before = spent(&engine);
    std::thread::sleep(Duration::from_secs(1));
    let busy: Duration = since(&engine, &before).iter().map(|s| s.on_cpu).sum();
    assert!(busy < Duration::from_millis(10), "{busy:?}");
}
