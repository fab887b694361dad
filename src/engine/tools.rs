//! What `hearth-engine` does by hand: check a file, measure, answer once.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::backend::{Backend, DecodeError, Loader as _, Part, Progress, Token};
use super::clock;
use super::llama::{LlamaLoader, check_tensors};
use super::process::today;
use super::worker::Worker;
use crate::fit;
use crate::gguf::read_header;
use crate::prompt::Template;
use crate::protocol::{
    BenchJob, BenchResult, Event, Failure, FailureKind, GenerateRequest, KvType, Limits,
    LoadRequest, ModelInfo, Sampling,
};

/// Context of the one-token trial in [`check`].
const CHECK_CONTEXT: u32 = 64;

/// The most tokens of a context that a model file chooses by itself here.
const CONTEXT_MAX: u32 = 4096;

/// The context that a model file was made for, within bounds.
pub fn own_context(path: &Path) -> u32 {
    // What is wrong with the file is said by who loads it.
    let header = File::open(path).map(|file| read_header(&mut BufReader::new(file)));
    let header = header.ok().and_then(Result::ok).unwrap_or_default();
    fit::context(&header, 0, CONTEXT_MAX)
}

/// A request to load `path` with `threads`, and with the context given.
pub fn load_request(path: &Path, context_size: u32, threads: u32) -> LoadRequest {
    LoadRequest {
        path: path.to_owned(),
        context_size,
        kept_tokens: 0,
        kv_type: KvType::F16,
        threads_max: threads,
        slots: 1,
        lookup_tokens: 0,
        memory_max: None,
        cache: None,
        limits: Limits {
            threads,
            ..Limits::default()
        },
        sampling: Sampling::default(),
    }
}

/// Loads a model file completely, looks at every number in it and decodes one token.
///
/// # Errors
/// The failure that says why it is not usable.
pub fn check(loader: &LlamaLoader, path: &Path) -> Result<ModelInfo, Failure> {
    check_tensors(loader.runtime(), path)?;
    let progress = Arc::default();
    let request = load_request(path, CHECK_CONTEXT, 1);
    let mut backend = loader.load(&request, &progress, Box::new(|_| ()))?;
    let format = backend.chat_format();
    Template::new(
        format.template.as_deref(),
        &format.bos,
        &format.eos,
        &today(),
    )?;
    let mut sampler = backend.sampler(&Sampling::default())?;
    let does_not_run = |error: String| {
        let message = format!("{} loads but does not run: {error}", path.display());
        Failure::new(FailureKind::ModelInvalid, message)
    };
    decode(&mut backend, &[0], 0).map_err(|error| does_not_run(error.to_string()))?;
    backend
        .sample(&mut sampler, 0, None, None)
        .map_err(|failure| does_not_run(failure.message))?;
    Ok(backend.info().clone())
}

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
    let load_ms = clock::ms_since(began);
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    let mut batches = BATCHES.map(|_| Vec::new());
    // The first run warms up and does not count: it faults the mapped weights in.
    for run in 0..=bench.runs.max(1) {
        let times = bench_once(&mut backend, bench)?;
        if run > 0 {
            prefill.push(f64::from(bench.prompt_tokens) * 1000.0 / times.0);
            decode.push(f64::from(bench.tokens) * 1000.0 / times.1);
            time_batches(&mut backend, bench.prompt_tokens.max(1), &mut batches)?;
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
        batch_costs: BATCHES.into_iter().zip(batches.map(median)).collect(),
    })
}

/// Milliseconds of prefill and of decode.
fn bench_once<B: Backend>(backend: &mut B, bench: &BenchJob) -> Result<(f64, f64), Failure> {
    let vocab = backend.info().vocab_size.max(1);
    // Any tokens do: the work does not depend on them.
    let prompt: Vec<Token> = (0..bench.prompt_tokens.max(1))
        .map(|n| (n.wrapping_mul(7919) % vocab).cast_signed())
        .collect();
    backend.remove(0, 0);
    let greedy = Sampling {
        temperature: Some(0.0),
        ..Sampling::default()
    };
    let mut sampler = backend.sampler(&greedy)?;
    let failed = |e: DecodeError| Failure::new(FailureKind::Internal, e.to_string());
    let began = clock::now();
    let last = decode(backend, &prompt, 0).map_err(failed)?;
    let mut token = backend.sample(&mut sampler, last, None, None)?.token;
    let prefill_ms = clock::ms_since(began);
    let began = clock::now();
    for n in 0..bench.tokens {
        let last = decode(backend, &[token], bench.prompt_tokens.max(1) + n).map_err(failed)?;
        token = backend.sample(&mut sampler, last, None, None)?.token;
    }
    Ok((prefill_ms, clock::ms_since(began)))
}

/// Adds to `costs`, for each of [`BATCHES`], its time over that of a batch of one, the
/// two taken in turn.
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
        let failed = |e: DecodeError| Failure::new(FailureKind::Internal, e.to_string());
        backend.decode(&parts).map_err(failed)?;
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

/// Decodes the tokens of sequence 0 from `position` on; returns the place of the last
/// one in its batch.
fn decode<B: Backend>(
    backend: &mut B,
    tokens: &[Token],
    position: u32,
) -> Result<usize, DecodeError> {
    let last = tokens.len();
    let all: Vec<Part> = (1..)
        .zip((position..).zip(tokens))
        .map(|(n, (position, token))| Part {
            token: *token,
            position,
            seq: 0,
            samples: n == last,
        })
        .collect();
    let mut at = 0;
    for parts in all.chunks(backend.batch_max() as usize) {
        backend.decode(parts)?;
        at = parts.len() - 1;
    }
    Ok(at)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Answers one request, writing the text to standard output as it comes.
///
/// # Errors
/// Those of loading and of the request.
pub fn answer(
    loader: &LlamaLoader,
    load: &LoadRequest,
    request: &GenerateRequest,
) -> Result<Event, Failure> {
    let progress = Arc::new(Progress::default());
    let backend = loader.load(load, &progress, Box::new(|_| ()))?;
    let format = backend.chat_format();
    let template = Template::new(
        format.template.as_deref(),
        &format.bos,
        &format.eos,
        &today(),
    )?;
    let mut worker = Worker::new(backend, template, None, load.lookup_tokens);
    worker.submit(request.clone());
    let began = clock::now();
    loop {
        let now = clock::now().duration_since(began);
        _ = worker.plan(now, &load.limits);
        worker.tick(now);
        for event in worker.events() {
            match event {
                Event::Token { text, .. } => {
                    print(&text).map_err(|e| Failure::new(FailureKind::Io, e.to_string()))?;
                }
                Event::Failed { failure, .. } => return Err(failure),
                Event::Finished { .. } => return Ok(event),
                _ => {}
            }
        }
        if worker.is_idle() {
            return Err(Failure::new(FailureKind::Internal, "nothing left to do"));
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
