//! Measures how fast a model of known dimensions is on this machine, without its file.

use hearth_gguf::fit::{Repack, Settings, estimate};
use hearth_gguf::synthetic::{Shape, Storage, make, sizes};
use hearth_proto::{BenchJob, Failure, FailureKind, ShapeJob, ShapeResult, ShapeRow};

use crate::llama::{LlamaLoader, header};

use super::bandwidth::bandwidth;
use super::{Report, bench, enough_memory, enough_space};

/// The size of a header with a large vocabulary.
const HEADER_BYTES: u64 = 16 << 20;

/// Writes a model of random weights and measures it with each number of threads.
///
/// # Errors
/// `InvalidArgs` for an unknown shape or type, `Io` where there is no room for the file,
/// `OutOfMemory` where there is none for the model, and those of loading.
pub fn shape(
    loader: &LlamaLoader,
    job: &ShapeJob,
    report: Report<'_>,
) -> Result<ShapeResult, Failure> {
    let shape: Shape = job.shape.parse().map_err(Failure::invalid)?;
    let storage: Storage = job.storage.parse().map_err(Failure::invalid)?;
    let (all, per_token) = sizes(shape, storage);
    enough_space(&job.out, all.saturating_add(HEADER_BYTES))?;
    let mut made = |done, total| report("writing random weights", done, total);
    make(&job.out, shape, storage, 1, &mut made)
        .map_err(|e| Failure::new(FailureKind::Io, format!("{}: {e}", job.out.display())))?;
    let settings = Settings {
        threads: job.threads.iter().copied().max().unwrap_or(1),
        repack: Repack::of_this_cpu(),
        ..Settings::plain(job.prompt_tokens.saturating_add(job.tokens))
    };
    enough_memory(
        "a model of this shape and type",
        estimate(&header(&job.out)?, &settings).total.0,
    )?;
    let mut rows = Vec::new();
    let (mut load_ms, mut cpu, mut resident_bytes) = (0.0, String::new(), 0);
    let total = job.threads.len() as u64;
    for (done, threads) in (0..).zip(&job.threads) {
        report("measuring", done, total);
        let bench_job = BenchJob {
            model: job.out.clone(),
            prompt_tokens: job.prompt_tokens,
            tokens: job.tokens,
            threads: *threads,
            runs: job.runs,
            batches: false,
        };
        let result = bench(loader, &bench_job)?;
        let bytes_per_s = bandwidth(*threads);
        #[expect(clippy::cast_precision_loss, reason = "a model is below 2^52 bytes")]
        let share = result.decode_tokens_per_s * per_token as f64 / bytes_per_s;
        rows.push(ShapeRow {
            threads: *threads,
            prefill_tokens_per_s: result.prefill_tokens_per_s,
            decode_tokens_per_s: result.decode_tokens_per_s,
            read_bytes_per_s: bytes_per_s,
            share_of_limit: share,
        });
        (load_ms, cpu, resident_bytes) = (result.load_ms, result.cpu, result.resident_bytes);
    }
    Ok(ShapeResult {
        parameters: shape.parameters(),
        weight_bytes: all,
        bytes_per_token: per_token,
        cpu,
        load_ms,
        resident_bytes,
        rows,
    })
}
