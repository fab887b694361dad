//! What `hearth-engine` does by hand: check a file, measure, answer once.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::backend::{Backend, DecodeError, Loader as _, Progress, Token};
use super::clock;
use super::llama::{LlamaLoader, check_tensors};
use super::process::today;
use super::sequence::Sequence;
use crate::prompt::Template;
use crate::protocol::{
    Event, Failure, FailureKind, GenerateRequest, KvType, Limits, LoadRequest, ModelInfo, Sampling,
};
use crate::scheduler::{Batch, Slots};

/// Context of the one-token trial in [`check`].
const CHECK_CONTEXT: u32 = 64;

/// A request to load `path` with `threads`, and with the context given.
pub fn load_request(path: &Path, context_size: u32, threads: u32) -> LoadRequest {
    LoadRequest {
        path: path.to_owned(),
        context_size,
        context_max: 4096,
        kv_type: KvType::F16,
        threads_max: threads,
        slots: 1,
        cache_ram_mib: 0,
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
    backend.begin_sampling(&Sampling::default(), &[])?;
    let tried = backend.decode(&[0], 0).and_then(|()| backend.sample());
    tried.map_err(|error| {
        let message = format!("{} loads but does not run: {error}", path.display());
        Failure::new(FailureKind::ModelInvalid, message)
    })?;
    Ok(backend.info().clone())
}

/// What [`bench()`] is to do.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one after it.
    pub tokens: u32,
    /// Compute threads.
    pub threads: u32,
    /// How often; the medians count.
    pub runs: u32,
}

/// What [`bench()`] measured. Speeds are medians, in tokens a second.
#[derive(Clone, Debug, Serialize)]
pub struct BenchResult {
    /// The model.
    pub model: String,
    /// The CPU kernels.
    pub cpu: String,
    /// Compute threads.
    pub threads: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one.
    pub tokens: u32,
    /// Runs that the medians are of.
    pub runs: u32,
    /// Speed on the prompt.
    pub prefill_tokens_per_s: f64,
    /// Speed on the answer, greedy sampling included.
    pub decode_tokens_per_s: f64,
}

/// Measures the bare engine: no daemon, no socket, no text.
///
/// # Errors
/// Those of loading, and `Internal` where a decode fails.
pub fn bench(loader: &LlamaLoader, path: &Path, bench: Bench) -> Result<BenchResult, Failure> {
    let context = bench
        .prompt_tokens
        .saturating_add(bench.tokens)
        .saturating_add(1);
    let request = load_request(path, context, bench.threads);
    let mut backend = loader.load(&request, &Arc::default(), Box::new(|_| ()))?;
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    // The first run warms up and does not count: it faults the mapped weights in.
    for run in 0..=bench.runs.max(1) {
        let times = bench_once(&mut backend, bench)
            .map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
        if run > 0 {
            prefill.push(f64::from(bench.prompt_tokens) * 1000.0 / times.0);
            decode.push(f64::from(bench.tokens) * 1000.0 / times.1);
        }
    }
    let info = backend.info();
    Ok(BenchResult {
        model: info.description.clone(),
        cpu: info.cpu.clone(),
        threads: bench.threads,
        prompt_tokens: bench.prompt_tokens,
        tokens: bench.tokens,
        runs: bench.runs.max(1),
        prefill_tokens_per_s: median(prefill),
        decode_tokens_per_s: median(decode),
    })
}

/// Milliseconds of prefill and of decode.
fn bench_once<B: Backend>(backend: &mut B, bench: Bench) -> Result<(f64, f64), DecodeError> {
    let vocab = backend.info().vocab_size.max(1);
    // Any tokens do: the work does not depend on them.
    let prompt: Vec<Token> = (0..bench.prompt_tokens.max(1))
        .map(|n| (n.wrapping_mul(7919) % vocab).cast_signed())
        .collect();
    backend.clear();
    // Greedy.
    _ = backend.begin_sampling(
        &Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        &[],
    );
    let began = clock::now();
    backend.decode(&prompt, 0)?;
    let mut token = backend.sample()?;
    let prefill_ms = clock::ms_since(began);
    let began = clock::now();
    for n in 0..bench.tokens {
        backend.decode(&[token], bench.prompt_tokens.max(1) + n)?;
        token = backend.sample()?;
    }
    Ok((prefill_ms, clock::ms_since(began)))
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
    let mut backend = loader.load(load, &progress, Box::new(|_| ()))?;
    let format = backend.chat_format();
    let template = Template::new(
        format.template.as_deref(),
        &format.bos,
        &format.eos,
        &today(),
    )?;
    let mut sequence = Sequence::begin(&mut backend, &template, request)?;
    let mut slots = Slots::new(1);
    _ = slots.take(sequence.prompt_tokens(), 0);
    let mut batch = Batch::default();
    let mut events = Vec::new();
    loop {
        slots.plan(&load.limits, &mut batch);
        let Some(step) = batch.steps().first().copied() else {
            return Err(Failure::new(FailureKind::Internal, "nothing left to do"));
        };
        let end = sequence.step(&mut backend, step.work, &mut events);
        slots.apply(step);
        for event in events.drain(..) {
            if let Event::Token { text, .. } = event {
                print(&text).map_err(|e| Failure::new(FailureKind::Io, e.to_string()))?;
            }
        }
        match end {
            None => {}
            Some(Event::Failed { failure, .. }) => return Err(failure),
            Some(event) => return Ok(event),
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
