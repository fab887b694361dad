//! Measures the bare engine's speed.

use std::sync::Arc;

use hearth_proto::{BenchJob, BenchResult, Failure, Sampling, Use};

use super::{decode, load_request, resident};
use crate::backend::{Backend, Loader as _, Part, Token};
use crate::clock;
use crate::llama::LlamaLoader;

/// Batches that are compared with one of a single token.
const BATCHES: [u32; 4] = [2, 3, 5, 8];
/// How often a run times each of them.
const BATCH_REPEATS: u32 = 5;

/// Measures the bare engine: no daemon, no socket, no text.
///
/// # Errors
/// Those of loading, and `Internal` where a decode fails.
pub fn bench(loader: &LlamaLoader, bench: &BenchJob) -> Result<BenchResult, Failure> {
    let context = bench
        .prompt_tokens
        .saturating_add(bench.tokens)
        .saturating_add(BATCHES.into_iter().max().unwrap_or(1));
    let request = load_request(&bench.model, context, bench.threads);
    let began = clock::now();
    let mut backend = loader.load(&request, &Arc::default(), Box::new(|_| ()))?;
    backend.info().kind.check(Use::Completion)?;
    let load_ms = clock::ms_since(began);
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    let mut batches = BATCHES.map(|_| Vec::new());
    // The first run warms up and does not count: it faults the mapped weights in.
    for run in 0..=bench.runs.max(1) {
        let times = bench_once(&mut backend, bench)?;
        if run > 0 {
            prefill.push(f64::from(bench.prompt_tokens) * 1000.0 / times.0);
            decode.push(f64::from(bench.tokens) * 1000.0 / times.1);
            if bench.batches {
                time_batches(&mut backend, bench.prompt_tokens.max(1), &mut batches)?;
            }
        }
    }
    let info = backend.info();
    Ok(BenchResult {
        model: info.description.clone(),
        cpu: info.cpu.clone(),
        load_ms,
        threads: bench.threads,
        prompt_tokens: bench.prompt_tokens,
        tokens: bench.tokens,
        runs: bench.runs.max(1),
        prefill_tokens_per_s: median(prefill),
        decode_tokens_per_s: median(decode),
        resident_bytes: resident(),
        batch_costs: if bench.batches {
            BATCHES.into_iter().zip(batches.map(median)).collect()
        } else {
            Vec::new()
        },
    })
}

/// Milliseconds of prefill and of decode.
fn bench_once<B: Backend>(backend: &mut B, bench: &BenchJob) -> Result<(f64, f64), Failure> {
    let vocab = backend.info().vocab_size.max(1);
    // Any tokens will do: the work does not depend on them.
    let prompt: Vec<Token> = (0..bench.prompt_tokens.max(1))
        .map(|n| (n.wrapping_mul(7919) % vocab).cast_signed())
        .collect();
    backend.remove(0, 0);
    let greedy = Sampling {
        temperature: Some(0.0),
        ..Sampling::default()
    };
    let mut sampler = backend.sampler(&greedy)?;
    let began = clock::now();
    let last = decode(backend, &prompt, 0)?;
    let mut token = backend.sample(&mut sampler, last, None, None)?.token;
    let prefill_ms = clock::ms_since(began);
    let began = clock::now();
    for n in 0..bench.tokens {
        let last = decode(backend, &[token], bench.prompt_tokens.max(1) + n)?;
        token = backend.sample(&mut sampler, last, None, None)?.token;
    }
    Ok((prefill_ms, clock::ms_since(began)))
}

/// Adds to `costs`, for each of [`BATCHES`], its time divided by that of a batch of one,
/// measured alternately.
fn time_batches<B: Backend>(
    backend: &mut B,
    position: u32,
    costs: &mut [Vec<f64>],
) -> Result<(), Failure> {
    let mut time = |tokens: u32| {
        let parts: Vec<Part> = (position..position + tokens)
            .map(|position| Part {
                token: position.cast_signed() % 256,
                position,
                seq: 0,
                samples: true,
            })
            .collect();
        backend.remove(0, position);
        let began = clock::now();
        backend.decode(&parts)?;
        Ok::<_, Failure>(clock::ms_since(began))
    };
    for (tokens, costs) in BATCHES.into_iter().zip(costs) {
        for _ in 0..BATCH_REPEATS {
            let one = time(1)?;
            costs.push(time(tokens)? / one);
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
